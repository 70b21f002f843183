"""The page of one AAR, for the operator.

It shows what the AAR does, what it has used and what people asked of it, with the forms that ask.
"""

import asyncio
import secrets
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import BadInput, NotFound
from aarlab.core.files import end_of
from aarlab.core.ranking import RunKey, first_runs
from aarlab.core.wire_ledger import Control, NewControl
from aarlab.core.wire_service import FindingQuery
from aarlab.server.auth import OPERATOR
from aarlab.server.dashboard.desk import Desk, DeskDep
from aarlab.server.dashboard.pages.campaign import campaign_view
from aarlab.server.dashboard.rendering import Form, FormDep, form_key, go_to, page, part
from aarlab.server.dashboard.session import OperatorViewer, Viewer
from aarlab.server.writes import write_once, writing
from aarlab.store import controls, forum

Facts = dict[str, Any]
SHOWN = 15
LOG_SHOWN = 64 * 1024  # bytes


async def aar_facts(tx: AsyncConnection, desk: Desk, name: str) -> Facts:
    """Return the facts of an AAR's page. Raises NotFound for an unknown AAR."""
    whole = await campaign_view(tx, desk, operator=True)
    row = next((row for row in whole["aars"] if row["name"] == name), None)
    if row is None:
        raise _unknown(name)
    posts = await forum.page(tx, FindingQuery(author=name, sort="new", limit=SHOWN))
    asked = await controls.listed(tx, name)
    return {
        "aar": row,
        "arms": whole["arms"],
        "over": whole["over"],
        "limits": desk.memory.aars[name].limits.model_dump(),
        "controls": [c.model_dump() for c in asked[::-1][:SHOWN]],
        "findings": [{"id": f.id, "title": f.title, "at": f.at} for f in posts.findings],
        "snapshots": _snapshots(desk, name),
        "spend": desk.memory.spend.get(name, {}),
        "cases": _cases(desk, name),
    }


def _unknown(name: str) -> NotFound:
    return NotFound(f"no AAR {name[:64]!r} in this campaign")


def _cases(desk: Desk, name: str) -> list[Facts]:
    """Return what the audits found about its submissions, each with the latest verdict."""
    memory = desk.memory
    found = [memory.audits[number] for number in memory.audits_of.get("", [])]
    return [
        {**a.model_dump(), "verdict": given[-1].model_dump() if given else None}
        for a in found
        if a.aar == name
        for given in (memory.cases_of.get(a.id),)
    ]


def _snapshots(desk: Desk, name: str) -> list[Facts]:
    """List the AAR's newest snapshots, each with its verified PGR on the first task."""
    mine = [snap for snap in desk.memory.snaps.values() if snap.aar == name][-SHOWN:]
    rows, task = [], desk.tasks(operator=False)[0]
    for snap in reversed(mine):
        first = first_runs(desk.memory.runs_for(snap.id))
        run = first.get(RunKey(task, snap.id, "selection", "none"))
        suspect = any(a.severity == "suspect" for a in desk.memory.audits_for(snap.id))
        rows.append(
            {
                "id": snap.id,
                "short": desk.memory.names[snap.id],
                "name": snap.name,
                "at": snap.at,
                "pgr": run.estimate.value if run and run.estimate else None,
                "suspect": suspect,
                "verdict": desk.memory.decision(snap.id),
            }
        )
    return rows


router = APIRouter(include_in_schema=False)
LIMITS = {
    **{"hours": float, "dollars": float, "device_s": float},
    **{"tokens": int, "submissions": int, "methods": int},
}


@router.get("/aars/{name}")
async def aar(name: str, request: Request, desk: DeskDep, viewer: OperatorViewer) -> Response:
    async with desk.platform.store.database.read() as tx:
        facts = await aar_facts(tx, desk, name)
    return page(request, viewer, "aar", {**facts, "key": secrets.token_hex(16)})


@router.get("/aars/{name}/log")
async def log(name: str, request: Request, desk: DeskDep, viewer: OperatorViewer) -> Response:
    """Show the end of what the AAR's process said: starts, refusals, what it died of."""
    async with desk.platform.store.database.read() as tx:
        await desk.memory.refresh(tx)
    if name not in desk.memory.aars:
        raise _unknown(name)
    path = desk.platform.settings.run_dir.aar_log(name)
    text = await asyncio.to_thread(end_of, path, LOG_SHOWN)
    return page(request, viewer, "aar_log", {"aar": name, "text": text, "path": str(path)})


@router.get("/live/aars/{name}")
async def live_aar(name: str, request: Request, desk: DeskDep, viewer: OperatorViewer) -> Response:
    async with desk.platform.store.database.read() as tx:
        facts = await aar_facts(tx, desk, name)
    return part(request, viewer, "aar", facts)


@router.post("/aars/control")
async def control_all(
    request: Request, desk: DeskDep, viewer: OperatorViewer, form: FormDep
) -> Response:
    """Steer the whole campaign."""
    await _steer(request, desk, None, _control(form, viewer), form)
    return go_to(viewer, "/")


@router.post("/aars/{name}/control")
async def control(
    name: str, request: Request, desk: DeskDep, viewer: OperatorViewer, form: FormDep
) -> Response:
    await _steer(request, desk, name, _control(form, viewer), form)
    return go_to(viewer, f"/aars/{name}" if form.get("back") == "aar" else "/")


def _control(form: Form, viewer: Viewer) -> NewControl:
    """Read the control from the form. Raises BadInput, saying what is missing."""
    given: dict[str, Any] = {"action": form.get("action", ""), "text": form.get("text", "")}
    given["by"] = form.get("by") or viewer.name or "operator"
    try:
        if given["action"] == "extend":
            fields = {name: kind(form[name]) for name, kind in LIMITS.items() if form.get(name)}
            given["add"] = fields
        return NewControl.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        said = first["msg"].removeprefix("Value error, ")
        if first["loc"][:1] == ("add",):
            said = f"{first['loc'][-1]}: what is added is a finite number above 0"
        raise BadInput(f"that cannot be asked of an AAR: {said}") from None
    except ValueError:
        raise BadInput("limits are numbers; submissions and tokens whole ones") from None


async def _steer(
    request: Request, desk: Desk, name: str | None, new: NewControl, form: Form
) -> None:
    wanted = writing(desk.platform, OPERATOR, form_key(form), request, new)
    await write_once(wanted, Control, lambda tx: controls.add(tx, name, new))
    desk.platform.known.clear()  # limits may have changed
    await desk.platform.steering.refresh()
