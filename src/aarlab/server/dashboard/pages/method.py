"""One method's story, and the verdict form."""

import asyncio
import secrets

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import BadInput, Conflict
from aarlab.core.wire import NewVerdict, Verdict
from aarlab.server.auth import OPERATOR
from aarlab.server.dashboard.desk import Desk, DeskDep
from aarlab.server.dashboard.forms import FormDep, Text, form_key, go_to
from aarlab.server.dashboard.rendering import page
from aarlab.server.dashboard.session import OperatorViewer, ViewerDep
from aarlab.server.dashboard.side_by_side import side_by_side
from aarlab.server.dashboard.views import story
from aarlab.server.routes.operator_audits import record_verdict
from aarlab.server.routes.snapshots import read_snapshot
from aarlab.server.writes import write_once, writing
from aarlab.store import audits
from aarlab.store.differences import Contents, contents

router = APIRouter(include_in_schema=False)
BACK = ("/audits", "/leaderboard")


@router.get("/methods/{snapshot}")
async def method(
    snapshot: str, request: Request, desk: DeskDep, viewer: ViewerDep, against: Text = None
) -> Response:
    async with desk.platform.store.database.read() as tx:
        facts = await story.method(tx, desk, snapshot, viewer.operator)
    if not await desk.shows_figures(viewer.operator):
        facts |= story.WITHHELD
    desk.families.wake()
    this = facts["snapshot"]
    base = _base(facts, against)
    facts |= {"against": base, "files": await _compared(desk, this["id"], base)}
    facts["excerpt"] = None
    if viewer.operator:
        facts["excerpt"] = await story.excerpt(desk, this["aar"], this["at"])
    facts |= {"key": secrets.token_hex(16), "seen": _seen(facts["verdicts"])}
    return page(request, viewer, "method", facts)


def _base(facts: story.Facts, against: str | None) -> story.Facts | None:
    """What to compare with: what was asked for, else the parent, else vanilla, else nothing."""
    known: dict[str, story.Facts] = {s["id"]: s for s in facts["ancestors"]}
    parent = next(iter(known.values()), None)
    plain: story.Facts | None = facts["vanilla"]
    if plain is not None:
        known.setdefault(plain["id"], plain)
    if against == "nothing":
        return None
    if against == "vanilla" and plain is not None:
        return plain
    return known.get(against or "", parent or plain)


async def _compared(desk: Desk, new: str, base: story.Facts | None) -> list[story.Facts]:
    after = contents((await read_snapshot(desk.platform, new)).files)
    before: Contents = {}
    if base is not None:
        before = contents((await read_snapshot(desk.platform, base["id"])).files)
    return await asyncio.to_thread(side_by_side, before, after)


def _seen(verdicts: list[story.Facts]) -> str:
    """The newest verdict that the page shows: a form must not overrule one it did not show."""
    return str(verdicts[0]["id"]) if verdicts else ""


@router.post("/methods/{snapshot}/verdict")
async def give_verdict(
    snapshot: str, request: Request, desk: DeskDep, viewer: OperatorViewer, form: FormDep
) -> Response:
    """A person's decision, as through the API; a Conflict where another came first."""
    given = {name: form.get(name, "") for name in ("decision", "reason", "by")}
    try:
        new = NewVerdict.model_validate({"snapshot": snapshot, **given})
    except ValidationError:
        raise BadInput("a verdict needs a decision, a reason and your name") from None

    async def act(tx: AsyncConnection) -> Verdict:
        latest = (await audits.standing_verdicts(tx)).get(snapshot, [])
        if latest and latest[-1].id != form.get("seen", ""):
            raise Conflict(
                f"{latest[-1].by} gave a verdict ({latest[-1].decision}) after you opened this "
                "page: open it again, read the reason, then decide"
            )
        return await record_verdict(tx, new)

    await write_once(writing(desk.platform, OPERATOR, form_key(form), request, new), Verdict, act)
    back = form.get("back", "")
    return go_to(viewer, back if back.startswith(BACK) else f"/methods/{snapshot}")
