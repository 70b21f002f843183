"""Operator: the hash chain and its head."""

from typing import Annotated

from fastapi import APIRouter, Query

from aarlab.core.wire import Head, LogRecord
from aarlab.server.auth import OperatorDep, PlatformDep
from aarlab.server.bodies import StrictRoute
from aarlab.store import log

router = APIRouter(prefix="/v1/operator/log", route_class=StrictRoute)


@router.get("")
async def entries(
    _operator: OperatorDep,
    platform: PlatformDep,
    after: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
) -> list[LogRecord]:
    async with platform.store.database.read() as tx:
        return await log.entries(tx, after, limit)


@router.get("/head")
async def head(_operator: OperatorDep, platform: PlatformDep) -> Head:
    async with platform.store.database.read() as tx:
        return await log.head(tx)
