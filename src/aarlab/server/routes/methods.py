"""Method submissions: an AAR asks the platform to run its snapshot itself, on hidden data."""

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import Forbidden
from aarlab.core.wire_service import MethodRequest, NewMethod
from aarlab.server.auth import AarDep, PlatformDep
from aarlab.server.bodies import StrictRoute
from aarlab.server.paging import PageDep
from aarlab.server.tasks import check_development, development_tasks
from aarlab.server.writes import KeyDep, write_once, writing
from aarlab.store import log, methods, snapshots, standing

router = APIRouter(prefix="/v1/methods", route_class=StrictRoute)


@router.post("", responses={402: {}})
async def submit_method(
    new: NewMethod, request: Request, aar: AarDep, platform: PlatformDep, key: KeyDep
) -> MethodRequest:
    """Costs one of `limits.methods`; what is refused here costs nothing."""

    async def act(tx: AsyncConnection) -> MethodRequest:
        if new.task is not None:
            check_development(platform, new.task)
        if (await snapshots.get(tx, new.snapshot, aar.team)).aar != aar.name:
            raise Forbidden("this snapshot is another AAR's: ask for one of your own")
        standing.check_methods(await standing.standing(tx, aar.name))
        made = await methods.add(tx, aar.name, new)
        entry = made.model_dump(mode="json", include={"id", "aar", "snapshot", "task", "note"})
        await log.append(tx, "method", entry, made.at)
        return made

    return await write_once(writing(platform, aar.name, key, request, new), MethodRequest, act)


@router.get("")
async def own_methods(aar: AarDep, platform: PlatformDep, page: PageDep) -> list[MethodRequest]:
    """The own requests, oldest first, and what came of them."""
    tasks = development_tasks(platform)
    async with platform.store.database.read() as tx:
        return page.of(await methods.listed(tx, tasks, aar, page.after, page.limit))
