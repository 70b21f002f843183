"""Operator routes: the whole campaign as one document, and the hash chain with its head."""

from typing import Annotated

from fastapi import APIRouter, Query

from aarlab.core.wire import CampaignExport, Head, LogRecord
from aarlab.server.auth import OperatorDep, PlatformDep
from aarlab.server.middleware import StrictRoute
from aarlab.server.service.export import exported
from aarlab.store import log

router = APIRouter(prefix="/v1/operator", route_class=StrictRoute)


@router.get("/export")
async def export(
    _operator: OperatorDep, platform: PlatformDep, ideas: bool = False
) -> CampaignExport:
    return await exported(platform, ideas)


log_router = APIRouter(prefix="/v1/operator/log", route_class=StrictRoute)


@log_router.get("")
async def entries(
    _operator: OperatorDep,
    platform: PlatformDep,
    after: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
) -> list[LogRecord]:
    async with platform.store.database.read() as tx:
        return await log.entries(tx, after, limit)


@log_router.get("/head")
async def head(_operator: OperatorDep, platform: PlatformDep) -> Head:
    async with platform.store.database.read() as tx:
        return await log.head(tx)
