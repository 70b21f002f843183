"""What an AAR may know of itself and of the tasks; its sessions and spend."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import Forbidden
from aarlab.core.wire import Me, SessionRecord, Spend, TaskInfo
from aarlab.core.wire_service import MAX_CURSOR, NewWait, OperatorMessage
from aarlab.server.auth import AarDep, PlatformDep, by_supervisor
from aarlab.server.bodies import StrictRoute
from aarlab.server.tasks import development_tasks, task_info
from aarlab.server.writes import KeyDep, write_once, writing
from aarlab.store import aars, controls, ledger, log, standing

router = APIRouter(prefix="/v1", route_class=StrictRoute)


@router.get("/me")
async def me(aar: AarDep, platform: PlatformDep) -> Me:
    """Direction, limits, and what is left of the budget."""
    async with platform.store.database.read() as tx:
        return standing.me(await standing.standing(tx, aar.name))


@router.get("/me/messages")
async def messages(
    aar: AarDep, platform: PlatformDep, after: Annotated[int, Query(ge=0, le=MAX_CURSOR)] = 0
) -> list[OperatorMessage]:
    """What the operator wrote to this AAR or to all, oldest first; `after` is a `seq`."""
    async with platform.store.database.read() as tx:
        return await controls.messages(tx, aar.name, after)


@router.get("/tasks")
async def tasks(_aar: AarDep, platform: PlatformDep) -> list[TaskInfo]:
    """Development tasks, less the generator settings: their seeds could make a task again."""
    known = [task_info(platform, name) for name in development_tasks(platform)]
    return [task.model_copy(update={"settings": {}}) for task in known]


@router.post("/sessions")
async def open_session(
    request: Request, aar: AarDep, platform: PlatformDep, key: KeyDep
) -> SessionRecord:
    """Begin a life of the AAR: the time since its supervisor was seen last is no research time.

    For an agent that joined by itself this is a request like any other: a gap before it counts up
    to ten minutes.
    """

    async def act(tx: AsyncConnection) -> SessionRecord:
        if not by_supervisor(request, platform, aar.name):
            await aars.touch(tx, aar.name)
            return (await aars.all_sessions(tx, aar.name, waits=True))[-1]
        session = await aars.open_session(tx, aar.name)
        await log.append(tx, "session", {"aar": aar.name}, session.started_at)
        return session

    return await write_once(writing(platform, aar.name, key, request), SessionRecord, act)


@router.post("/waiting")
async def wait(
    new: NewWait, request: Request, aar: AarDep, platform: PlatformDep, key: KeyDep
) -> SessionRecord:
    """For the AAR's supervisor: what it waits for since when, which is no research time."""
    if not by_supervisor(request, platform, aar.name):
        raise Forbidden("only the supervisor of an AAR says that it waits")

    async def act(tx: AsyncConnection) -> SessionRecord:
        session = await aars.wait(tx, aar.name, new)
        facts = {"aar": aar.name, "kind": new.kind, "ago_s": new.ago_s}
        await log.append(tx, "waiting", facts, session.last_seen_at)
        return session

    return await write_once(writing(platform, aar.name, key, request, new), SessionRecord, act)


@router.post("/spend")
async def add_spend(
    item: Spend, request: Request, aar: AarDep, platform: PlatformDep, key: KeyDep
) -> Me:
    """Record spend, also past a limit: it is a fact, and later submissions are refused."""

    async def act(tx: AsyncConnection) -> Me:
        await ledger.add_spend(tx, aar.name, item)
        await log.append(tx, "spend", {"aar": aar.name, "kind": item.kind, "amount": item.amount})
        return standing.me(await standing.standing(tx, aar.name))

    return await write_once(writing(platform, aar.name, key, request, item), Me, act)
