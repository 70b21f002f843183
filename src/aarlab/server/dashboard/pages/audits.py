"""The audit queue, and verdicts on findings that are about an AAR."""

import secrets
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import BadInput, Conflict
from aarlab.core.wire import CaseVerdict, NewCaseVerdict
from aarlab.server.auth import OPERATOR
from aarlab.server.dashboard.desk import DeskDep
from aarlab.server.dashboard.forms import FormDep, PageNumber, Text, form_key, go_to
from aarlab.server.dashboard.rendering import page as answer
from aarlab.server.dashboard.session import OperatorViewer
from aarlab.server.dashboard.views.board import GRAVITY
from aarlab.server.dashboard.views.queue import queue
from aarlab.server.routes.operator_audits import record_case_verdict
from aarlab.server.writes import write_once, writing
from aarlab.store import audits

router = APIRouter(include_in_schema=False)
State = Annotated[Literal["open", "decided", "all"], Query()]


@router.get("/audits")
async def audit_queue(
    request: Request,
    desk: DeskDep,
    viewer: OperatorViewer,
    severity: Text = None,
    state: State = "open",
    page: PageNumber = 0,
) -> Response:
    wanted = severity if severity in GRAVITY else None
    async with desk.platform.store.database.read() as tx:
        facts = await queue(tx, desk, wanted, state, page)
    for case in facts["cases"]:
        case["key"] = secrets.token_hex(16)
    return answer(request, viewer, "audits", facts)


@router.post("/audits/{audit}/verdict")
async def give_case_verdict(
    audit: str, request: Request, desk: DeskDep, viewer: OperatorViewer, form: FormDep
) -> Response:
    """A person's decision, as through the API; a Conflict where another came first."""
    decision, _, disqualifies = form.get("decision", "").partition(":")
    given = {"decision": decision, "disqualifies": disqualifies or "nothing"}
    given |= {name: form.get(name, "") for name in ("reason", "by")}
    try:
        new = NewCaseVerdict.model_validate({"audit": audit, **given})
    except ValidationError:
        raise BadInput("a verdict needs a decision, a reason and your name") from None

    async def act(tx: AsyncConnection) -> CaseVerdict:
        latest = [v for v in await audits.all_case_verdicts(tx) if v.audit == audit]
        if latest and latest[-1].id != form.get("seen", ""):
            raise Conflict(
                f"{latest[-1].by} gave a verdict ({latest[-1].decision}) after you opened this "
                "page: open it again, read the reason, then decide"
            )
        return await record_case_verdict(tx, new)

    wanted = writing(desk.platform, OPERATOR, form_key(form), request, new)
    await write_once(wanted, CaseVerdict, act)
    back = form.get("back", "")
    return go_to(viewer, back if back.startswith("/audits") else "/audits")
