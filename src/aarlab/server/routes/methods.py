"""Method submissions: an AAR asks the platform to run its snapshot itself, on hidden data.

It learns what became of a request, never a figure (core.feedback).
"""

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import Forbidden, NotFound
from aarlab.core.wire import NewAar
from aarlab.core.wire_service import MethodRequest, NewMethod
from aarlab.server.auth import AarDep, PlatformDep
from aarlab.server.bodies import StrictRoute
from aarlab.server.paging import PageDep
from aarlab.server.platform import Platform
from aarlab.server.tasks import check_development, development_tasks
from aarlab.server.writes import KeyDep, Writing, write_once, writing
from aarlab.store import log, methods, snapshots, standing

router = APIRouter(prefix="/v1/methods", route_class=StrictRoute)


@router.post("", responses={402: {}})
async def submit_method(
    new: NewMethod, request: Request, aar: AarDep, platform: PlatformDep, key: KeyDep
) -> MethodRequest:
    """Costs one of `limits.methods`; what is refused here costs nothing."""
    return await request_verification(aar, writing(platform, aar.name, key, request, new), new)


async def request_verification(aar: NewAar, wanted: Writing, new: NewMethod) -> MethodRequest:
    """Request the verification of an own snapshot, for the route and the MCP tools.

    Raises Forbidden for another AAR's snapshot.
    """
    platform = wanted.platform

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

    return await write_once(wanted, MethodRequest, act)


@router.get("")
async def own_methods(aar: AarDep, platform: PlatformDep, page: PageDep) -> list[MethodRequest]:
    """The own requests, oldest first, and what came of them: states, no figure."""
    return page.of(await requests_of(aar, platform, page.after, page.limit))


async def requests_of(
    aar: NewAar, platform: Platform, after: int = 0, limit: int | None = None
) -> list[tuple[int, MethodRequest]]:
    """List an AAR's own requests with their cursors."""
    tasks = development_tasks(platform)
    async with platform.store.database.read() as tx:
        return await methods.listed(tx, tasks, aar, after, limit)


async def own_requests(aar: NewAar, platform: Platform, request: str | None) -> list[MethodRequest]:
    """List an AAR's requests, or only the named one; raises NotFound if it has none of that id."""
    mine = [one for _, one in await requests_of(aar, platform)]
    found = [one for one in mine if request in (None, one.id)]
    if request is not None and not found:
        raise NotFound(f"you have no request {request[:60]!r}: ask for verification first")
    return found
