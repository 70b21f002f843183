"""Paid model calls of the operator: held with the most they can cost, then booked, each once.

A call that was reserved and never booked stays held: nobody knows what it cost. Whoever made it
books it, at its worst where the answer is lost, before another is made in its place.
"""

from typing import Any

from sqlalchemy import case, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import now_iso
from aarlab.core.errors import BudgetExhausted, Conflict
from aarlab.core.ledger import TOKEN_KINDS
from aarlab.core.wire_ledger import OperatorCall, OperatorReservation, OperatorSpend, Purpose
from aarlab.store.tables import operator_calls as calls


async def reserve(tx: AsyncConnection, new: OperatorReservation) -> OperatorCall:
    """Raises BudgetExhausted where a cap could be passed, Conflict for a call that is known."""
    held = OperatorCall.model_validate(new.model_dump(exclude={"cap_dollars"}))
    if await _known(tx, new.call) is not None:
        raise Conflict(f"call {new.call!r} is reserved or booked already: take another id")
    if new.cap_dollars is not None:
        query = select(func.sum(calls.c.dollars)).where(calls.c.purpose == new.purpose)
        left = new.cap_dollars - float(await tx.scalar(query) or 0.0)
        if new.dollars > left:
            raise BudgetExhausted(
                f"{max(left, 0.0):.4g} of {new.cap_dollars:g} dollars are left for calls of "
                f"{new.purpose}, and this one may take {new.dollars:.4g}"
            )
    await tx.execute(insert(calls).values(booked=False, at=now_iso(), **held.model_dump()))
    return held


async def book(tx: AsyncConnection, call: OperatorCall) -> bool:
    """What a call did cost, reserved or not: it is a fact. False where it is booked already.

    Raises Conflict where it was booked with other figures.
    """
    known, values = await _known(tx, call.call), call.model_dump()
    if known is None:
        await tx.execute(insert(calls).values(booked=True, at=now_iso(), **values))
        return True
    if known.booked:
        if _call(known) != call:
            raise Conflict(f"call {call.call!r} is booked with other figures")
        return False
    this = update(calls).where(calls.c.call == call.call)
    await tx.execute(this.values(booked=True, at=now_iso(), **values))
    return True


async def unbooked(tx: AsyncConnection, purpose: Purpose) -> list[OperatorCall]:
    """Calls under way or cut off, with the most that they can cost; oldest first."""
    query = select(calls).where(calls.c.purpose == purpose, calls.c.booked.is_(False))
    return [_call(row) for row in await tx.execute(query.order_by(calls.c.seq))]


async def spend(tx: AsyncConnection) -> list[OperatorSpend]:
    """Summed up for each purpose and model."""
    what = (calls.c.purpose, calls.c.model)
    sums = [func.sum(calls.c[kind]).label(kind) for kind in (*TOKEN_KINDS, "dollars", "seconds")]
    held = func.sum(case((calls.c.booked, 0), else_=1)).label("open")
    query = select(*what, func.count().label("calls"), held, *sums).group_by(*what).order_by(*what)
    rows = await tx.execute(query)
    return [OperatorSpend.model_validate(dict(row._mapping)) for row in rows]


async def _known(tx: AsyncConnection, call: str) -> Any:
    return (await tx.execute(select(calls).where(calls.c.call == call))).first()


def _call(row: Any) -> OperatorCall:
    return OperatorCall(**{name: getattr(row, name) for name in OperatorCall.model_fields})
