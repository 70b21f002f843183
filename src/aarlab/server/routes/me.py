"""What an AAR may know of itself and of the tasks; its sessions, spend and paid model calls.

A paid model call is reserved before it is made and recorded after.
"""

from typing import Annotated

from fastapi import APIRouter, Query

from aarlab.core.wire import (
    Me,
    OpenedSession,
    SessionRecord,
    Spend,
    TaskInfo,
    Wanted,
    WantedNow,
)
from aarlab.core.wire_ledger import ModelCall, NewReservation
from aarlab.core.wire_service import MAX_CURSOR, NewWait, OperatorMessage
from aarlab.server.auth import CallerDep
from aarlab.server.middleware import StrictRoute
from aarlab.server.service import tasks as known_tasks
from aarlab.server.service import usage
from aarlab.server.writes import KeyDep

router = APIRouter(prefix="/v1", route_class=StrictRoute)


@router.get("/me")
async def me(caller: CallerDep) -> Me:
    """Return direction, limits, and what is left of the budget."""
    return await usage.me(caller)


@router.get("/me/wanted")
async def wanted(
    caller: CallerDep,
    known: Annotated[Wanted, Query(description="what the AAR knows already")] = "run",
    wait_s: Annotated[float, Query(ge=0, le=60)] = 0.0,
) -> WantedNow:
    """Return what the operator wants of the AAR, once it is not `known` or `wait_s` have passed.

    It is a sign of life like any request.
    """
    return await usage.wanted(caller, known, wait_s)


@router.get("/me/messages")
async def messages(
    caller: CallerDep, after: Annotated[int, Query(ge=0, le=MAX_CURSOR)] = 0
) -> list[OperatorMessage]:
    """List what the operator wrote to this AAR or to all, oldest first; `after` is a `seq`."""
    return await usage.messages(caller, after)


@router.get("/tasks")
async def tasks(caller: CallerDep) -> list[TaskInfo]:
    """List development tasks.

    Generator settings are left out: their seeds could make a task again.
    """
    return known_tasks.infos(caller)


@router.post("/sessions")
async def open_session(caller: CallerDep, key: KeyDep) -> OpenedSession:
    """Begin a life of the AAR. Requests of its earlier lives are refused from now on.

    The time since its supervisor was seen last is not research time. For an agent that joined by
    itself this is a request like any other: it begins no life, and a gap before it counts up to ten
    minutes.
    """
    return await usage.open_session(caller, key)


@router.post("/waiting")
async def wait(new: NewWait, caller: CallerDep, key: KeyDep) -> SessionRecord:
    """Record what the AAR waits for since when, for its supervisor.

    The wait is not research time.
    """
    return await usage.wait(caller, new, key)


@router.post("/spend")
async def add_spend(item: Spend, caller: CallerDep, key: KeyDep) -> Me:
    """Record spend, also past a limit: it is a fact, and later submissions are refused."""
    return await usage.spend(caller, item, key)


ledger_router = APIRouter(prefix="/v1", route_class=StrictRoute)


@ledger_router.post("/reservations", responses={402: {}})
async def reserve(new: NewReservation, caller: CallerDep, key: KeyDep) -> Me:
    """Hold the most that a model call can cost, before it is made.

    Sent again, it is held again: an answer from before a crash would hold nothing. A new one
    replaces what this AAR held, unless it says `beside`. 429 if calls of others under way hold
    what is left.
    """
    return await usage.reserve(caller, new, key)


@ledger_router.post("/model-calls")
async def record_call(call: ModelCall, caller: CallerDep, key: KeyDep) -> Me:
    """Record a paid call, also past a limit: it is a fact. Releases its reservation."""
    return await usage.record_call(caller, call, key)
