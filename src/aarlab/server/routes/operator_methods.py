"""Operator: what AARs ask to have verified."""

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.wire_service import MethodRecord, Refusal
from aarlab.server.auth import OperatorDep, PlatformDep
from aarlab.server.bodies import StrictRoute
from aarlab.server.paging import PageDep
from aarlab.server.tasks import development_tasks
from aarlab.server.writes import KeyDep, write_once, writing
from aarlab.store import log, methods

router = APIRouter(prefix="/v1/operator/methods", route_class=StrictRoute)


@router.get("")
async def list_requests(
    _operator: OperatorDep, platform: PlatformDep, page: PageDep
) -> list[MethodRecord]:
    """Requests of all AARs, oldest first, with the figures of those that were verified."""
    tasks = development_tasks(platform)
    async with platform.store.database.read() as tx:
        return page.of(await methods.records(tx, tasks, page.after, page.limit))


@router.post("/{method}/refuse")
async def refuse_request(
    method: str,
    refusal: Refusal,
    request: Request,
    operator: OperatorDep,
    platform: PlatformDep,
    key: KeyDep,
) -> Refusal:
    """Its AAR sees the reason."""

    async def act(tx: AsyncConnection) -> Refusal:
        await methods.refuse(tx, method, refusal.reason)
        await log.append(tx, "method_refused", {"id": method, "reason": refusal.reason})
        return refusal

    return await write_once(writing(platform, operator, key, request, refusal), Refusal, act)
