"""Paid model calls: reserved before, recorded after."""

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import TooManyRequests
from aarlab.core.wire import Me
from aarlab.core.wire_ledger import ModelCall, NewReservation
from aarlab.server.auth import AarDep, PlatformDep
from aarlab.server.bodies import StrictRoute
from aarlab.server.writes import KeyDep, refusals_logged, write_once, writing
from aarlab.store import idempotency, ledger, log, standing

router = APIRouter(prefix="/v1", route_class=StrictRoute)


@router.post("/reservations", responses={402: {}})
async def reserve(
    new: NewReservation, request: Request, aar: AarDep, platform: PlatformDep, key: KeyDep
) -> Me:
    """Hold the most that a model call can cost, before it is made.

    Sent again, it is held again: an answer from before a crash would hold nothing. A new one
    replaces what this AAR held, unless it says `beside`. 429 where calls of others under way hold
    what is left.
    """
    wanted, held = writing(platform, aar.name, key, request, new), None
    async with refusals_logged(wanted), platform.store.database.write() as tx:
        await idempotency.recall(tx, aar.name, key, wanted.fingerprint)
        try:
            return standing.me(await standing.reserve(tx, aar.name, new))
        except TooManyRequests as error:  # it asks again every moment: no entry of the log
            held = error
    raise held


@router.post("/model-calls")
async def record_call(
    call: ModelCall, request: Request, aar: AarDep, platform: PlatformDep, key: KeyDep
) -> Me:
    """Record a paid call, also past a limit: it is a fact. Releases its reservation."""

    async def act(tx: AsyncConnection) -> Me:
        if await ledger.record_call(tx, aar.name, call):
            await log.append(tx, "model_call", {"aar": aar.name, **call.model_dump(mode="json")})
        return standing.me(await standing.standing(tx, aar.name))

    return await write_once(writing(platform, aar.name, key, request, call), Me, act)
