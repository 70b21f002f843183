"""The audit queue."""

import secrets
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from aarlab.server.dashboard.desk import DeskDep
from aarlab.server.dashboard.forms import PageNumber, Text
from aarlab.server.dashboard.rendering import page as answer
from aarlab.server.dashboard.session import OperatorViewer
from aarlab.server.dashboard.views.board import GRAVITY
from aarlab.server.dashboard.views.queue import queue

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
