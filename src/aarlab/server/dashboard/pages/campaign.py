"""The campaign page, its parts that a script asks for again, and one AAR's page."""

import asyncio
import secrets

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from aarlab.server.dashboard.desk import DeskDep
from aarlab.server.dashboard.forms import Text
from aarlab.server.dashboard.rendering import page, part, plain, tagged
from aarlab.server.dashboard.session import ViewerDep
from aarlab.server.dashboard.views import campaign as view

router = APIRouter(include_in_schema=False)


@router.get("/")
async def campaign(
    request: Request, desk: DeskDep, viewer: ViewerDep, task: Text = None
) -> Response:
    async with desk.platform.store.database.read() as tx:
        facts = await view.campaign(tx, desk, viewer.operator)
        drawn = await view.curves(tx, desk, viewer.operator, task)
    return page(request, viewer, "campaign", {**facts, "curve": drawn, "key": secrets.token_hex(8)})


@router.get("/live/campaign")
async def live_campaign(request: Request, desk: DeskDep, viewer: ViewerDep) -> Response:
    async with desk.platform.store.database.read() as tx:
        facts = await view.campaign(tx, desk, viewer.operator)
    return part(request, viewer, "campaign", facts)


@router.get("/live/curve")
async def live_curve(
    request: Request, desk: DeskDep, viewer: ViewerDep, task: Text = None
) -> Response:
    async with desk.platform.store.database.read() as tx:
        drawn = await view.curves(tx, desk, viewer.operator, task)
    return tagged(request, await asyncio.to_thread(JSONResponse, plain(drawn)))
