"""Tasks and models: what the campaign is judged on."""

from fastapi import APIRouter, Request, Response

from aarlab.server.dashboard.desk import DeskDep
from aarlab.server.dashboard.rendering import page
from aarlab.server.dashboard.session import ViewerDep
from aarlab.server.dashboard.views.cards import task_cards

router = APIRouter(include_in_schema=False)


@router.get("/tasks")
async def tasks(request: Request, desk: DeskDep, viewer: ViewerDep) -> Response:
    return page(request, viewer, "tasks", await task_cards(desk, viewer.operator))
