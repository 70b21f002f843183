"""Operator: the paid model calls of the review of code and of the judge of ideas."""

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.wire_ledger import OperatorCall, OperatorReservation, OperatorSpend, Purpose
from aarlab.server.auth import OperatorDep, PlatformDep
from aarlab.server.bodies import StrictRoute
from aarlab.server.writes import KeyDep, write_once, writing
from aarlab.store import log, operator_calls

router = APIRouter(prefix="/v1/operator", route_class=StrictRoute)


@router.post("/reservations", responses={402: {}})
async def reserve_call(
    new: OperatorReservation,
    request: Request,
    operator: OperatorDep,
    platform: PlatformDep,
    key: KeyDep,
) -> OperatorCall:
    """Hold the most that a call can cost, before it is made; held until it is booked."""
    wanted = writing(platform, operator, key, request, new)
    return await write_once(wanted, OperatorCall, lambda tx: operator_calls.reserve(tx, new))


@router.get("/reservations")
async def unbooked_calls(
    purpose: Purpose, _operator: OperatorDep, platform: PlatformDep
) -> list[OperatorCall]:
    """Calls that are held and not booked: under way, or cut off."""
    async with platform.store.database.read() as tx:
        return await operator_calls.unbooked(tx, purpose)


@router.post("/model-calls")
async def book_call(
    call: OperatorCall, request: Request, operator: OperatorDep, platform: PlatformDep, key: KeyDep
) -> OperatorCall:
    """Book what a call did cost, also past a cap: it is a fact. It ends the reservation."""

    async def act(tx: AsyncConnection) -> OperatorCall:
        if await operator_calls.book(tx, call):
            await log.append(tx, "operator_call", call.model_dump(mode="json"))
        return call

    return await write_once(writing(platform, operator, key, request, call), OperatorCall, act)


@router.get("/spend")
async def operator_spend(_operator: OperatorDep, platform: PlatformDep) -> list[OperatorSpend]:
    """The operator's own calls by purpose and model; they are in no AAR's spend."""
    async with platform.store.database.read() as tx:
        return await operator_calls.spend(tx)
