"""What an AAR has used and may still use: budget, messages, sessions, spend, paid model calls."""

from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import Forbidden, TooManyRequests
from aarlab.core.wire import Me, OpenedSession, SessionRecord, Spend, Wanted, WantedNow
from aarlab.core.wire_ledger import ModelCall, NewReservation
from aarlab.core.wire_service import NewWait, OperatorMessage
from aarlab.server.service.caller import Caller
from aarlab.server.writes import refusals_logged, write_once
from aarlab.store import aars, controls, ledger, log, shared, standing


async def me(caller: Caller) -> Me:
    """Return direction, limits, and what is left of the budget."""
    async with caller.platform.store.database.read() as tx:
        return standing.me(await standing.standing(tx, caller.aar.name))


async def wanted(caller: Caller, known: Wanted, wait_s: float) -> WantedNow:
    """Return what the operator wants of the AAR, once it is not `known` or `wait_s` have passed.

    Raises Superseded as soon as a newer life has begun on this server.
    """
    name, lives = caller.aar.name, caller.platform.lives

    def superseded() -> bool:
        return caller.life is not None and caller.life < lives.get(name, 0)

    now = await caller.platform.steering.wait([name], {name: known}, wait_s, superseded)
    if caller.life is not None and superseded():
        shared.refuse_older(name, caller.life, lives[name])
    return WantedNow(wanted=now[name])


async def messages(caller: Caller, after: int = 0) -> list[OperatorMessage]:
    """List what the operator wrote to this AAR or to all, oldest first; `after` is a `seq`."""
    async with caller.platform.store.database.read() as tx:
        return await controls.messages(tx, caller.aar.name, after)


async def open_session(caller: Caller, key: str) -> OpenedSession:
    """Begin a life of the AAR. Requests of its earlier lives are refused from now on.

    The time since its supervisor was seen last is not research time. For an agent that joined by
    itself this is a request like any other: it begins no life, and a gap before it counts up to ten
    minutes.
    """
    name = caller.aar.name

    async def act(tx: AsyncConnection) -> OpenedSession:
        if not caller.supervised:
            await aars.touch(tx, name)
            return await aars.current_session(tx, name)
        session = await aars.open_session(tx, name)
        await log.append(tx, "session", {"aar": name, "life": session.life}, session.started_at)
        return session

    opened = await write_once(caller.writing("POST /v1/sessions", key), OpenedSession, act)
    lives = caller.platform.lives
    lives[name] = max(lives.get(name, 0), opened.life)
    caller.platform.steering.wake(name)  # a poll of the life before
    return opened


async def wait(caller: Caller, new: NewWait, key: str) -> SessionRecord:
    """Record what the AAR waits for since when. The wait is not research time.

    Raises Forbidden unless its supervisor says so.
    """
    if not caller.supervised:
        raise Forbidden("only the supervisor of an AAR says that it waits")
    name = caller.aar.name

    async def act(tx: AsyncConnection) -> SessionRecord:
        session = await aars.wait(tx, name, new)
        facts = {"aar": name, "kind": new.kind, "ago_s": new.ago_s}
        await log.append(tx, "waiting", facts, session.last_seen_at)
        return session

    return await write_once(caller.writing("POST /v1/waiting", key, new), SessionRecord, act)


async def spend(caller: Caller, item: Spend, key: str) -> Me:
    """Record spend, also past a limit: it is a fact, and later submissions are refused."""
    name = caller.aar.name

    async def act(tx: AsyncConnection) -> Me:
        await ledger.add_spend(tx, name, item)
        await log.append(tx, "spend", {"aar": name, "kind": item.kind, "amount": item.amount})
        return standing.me(await standing.standing(tx, name))

    return await write_once(caller.writing("POST /v1/spend", key, item), Me, act)


async def reserve(caller: Caller, new: NewReservation, key: str) -> Me:
    """Hold the most that a model call can cost, before it is made.

    Sent again, it is held again: an answer from before a crash would hold nothing. A new one
    replaces what this AAR held, unless it says `beside`. Raises TooManyRequests if calls of
    others under way hold what is left.
    """
    name, writing, held = caller.aar.name, caller.writing("POST /v1/reservations", key, new), None
    async with refusals_logged(writing), caller.platform.store.database.write() as tx:
        await shared.recall(tx, name, key, writing.fingerprint, writing.life)
        try:
            return standing.me(await standing.reserve(tx, name, new))
        except TooManyRequests as error:  # it asks again every moment: no entry of the log
            held = error
    raise held


async def record_call(caller: Caller, call: ModelCall, key: str) -> Me:
    """Record a paid call, also past a limit: it is a fact. Releases its reservation."""
    name = caller.aar.name

    async def act(tx: AsyncConnection) -> Me:
        if await ledger.record_call(tx, name, call):
            await log.append(tx, "model_call", {"aar": name, **call.model_dump(mode="json")})
        return standing.me(await standing.standing(tx, name))

    return await write_once(caller.writing("POST /v1/model-calls", key, call), Me, act)
