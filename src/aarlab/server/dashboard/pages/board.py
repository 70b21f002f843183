"""The leaderboard."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from aarlab.server.dashboard.desk import DeskDep
from aarlab.server.dashboard.rendering import page
from aarlab.server.dashboard.session import ViewerDep
from aarlab.server.dashboard.views import board

router = APIRouter(include_in_schema=False)


class Asked(board.Filter):
    """With the place in the list; `format` is of every page."""

    page: Annotated[int, Field(ge=0, le=10_000)] = 0


@router.get("/leaderboard")
async def leaderboard(
    request: Request,
    desk: DeskDep,
    viewer: ViewerDep,
    wanted: Annotated[Asked, Query()],
) -> Response:
    async with desk.platform.store.database.read() as tx:
        await desk.memory.refresh(tx)
    desk.families.wake()
    if viewer.operator:
        desk.exact.wake()
    if await desk.shows_figures(viewer.operator):
        facts = board.leaderboard(desk, wanted, viewer.operator, wanted.page)
    else:
        facts = board.withheld(desk)
    return page(request, viewer, "leaderboard", {**facts, "shown": wanted.model_dump()})
