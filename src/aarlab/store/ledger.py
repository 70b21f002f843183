"""The ledger: budget, spend, paid model calls, and reservations for calls under way.

`spend_totals` is kept in the transaction of each entry, so a check of a budget reads a few rows,
however long the campaign is. The campaign's own budget is one row. It is set when the campaign
starts and changed by `extend`.

The operator's paid model calls are held with the most they can cost, then booked, each once. A call
that was reserved and never booked stays held, since nobody knows what it cost. Whoever made it
books it before another is made in its place; if the answer is lost, at its worst case.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Delete,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    not_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import now_iso, parse_iso
from aarlab.core.errors import BudgetExhausted, Conflict
from aarlab.core.ledger import TOKEN_KINDS
from aarlab.core.wire_ledger import (
    CampaignBudget,
    ModelCall,
    ModelSpend,
    NewReservation,
    OperatorCall,
    OperatorReservation,
    OperatorSpend,
    Purpose,
    Spend,
)
from aarlab.store.tables import budget, model_calls, reservations, spend, spend_totals
from aarlab.store.tables import operator_calls as calls

# Longer than any model call takes; a reservation whose AAR is gone for good holds money no longer.
RESERVED_S = 3600.0

_SPENT = select(spend_totals.c.kind, func.sum(spend_totals.c.amount)).group_by("kind")
_OWN_SPENT = _SPENT.where(spend_totals.c.aar == bindparam("aar"))


class Held(NamedTuple):
    """Reserved for calls that are not recorded yet."""

    dollars: float = 0.0
    tokens: float = 0.0


async def add_spend(tx: AsyncConnection, aar: str, item: Spend) -> None:
    await tx.execute(insert(spend).values(aar=aar, at=now_iso(), **item.model_dump()))
    await _count(tx, aar, {item.kind: item.amount})


async def record_call(tx: AsyncConnection, aar: str, call: ModelCall) -> bool:
    """Count a call and release its reservation; False if it is recorded already.

    Raises Conflict where the same call was recorded with other figures.
    """
    this = (model_calls.c.aar == aar, model_calls.c.call == call.call)
    known = (await tx.execute(select(model_calls).where(*this))).first()
    if known is not None:
        if any(getattr(known, name) != value for name, value in call.model_dump().items()):
            raise Conflict(f"call {call.call!r} of {aar} is recorded with other figures")
        return False
    await tx.execute(insert(model_calls).values(aar=aar, at=now_iso(), **call.model_dump()))
    await _count(tx, aar, call.model_dump(include={*TOKEN_KINDS, "dollars"}))
    await release(tx, aar, call.call)
    return True


async def _count(tx: AsyncConnection, aar: str, amounts: Mapping[str, float]) -> None:
    for kind, amount in amounts.items():
        this = (spend_totals.c.aar == aar, spend_totals.c.kind == kind)
        more = update(spend_totals).where(*this).values(amount=spend_totals.c.amount + amount)
        if amount and (await tx.execute(more)).rowcount == 0:
            await tx.execute(insert(spend_totals).values(aar=aar, kind=kind, amount=amount))


async def spent(tx: AsyncConnection, aar: str | None = None) -> dict[str, float]:
    """Return spend by kind, of one AAR or of all together."""
    rows = await (tx.execute(_SPENT) if aar is None else tx.execute(_OWN_SPENT, {"aar": aar}))
    return {kind: float(sum_) for kind, sum_ in rows}


async def spent_by_aar(
    tx: AsyncConnection, names: Sequence[str] | None = None
) -> dict[str, dict[str, float]]:
    """Return spend by kind of each AAR that spent anything; of some AARs if `names` are given."""
    query = select(spend_totals)
    query = query if names is None else query.where(spend_totals.c.aar.in_(names))
    found: dict[str, dict[str, float]] = {}
    for row in await tx.execute(query):
        found.setdefault(row.aar, {})[row.kind] = float(row.amount)
    return found


async def model_spend(tx: AsyncConnection) -> list[ModelSpend]:
    """Return calls summed up for each AAR and model."""
    kinds = (*TOKEN_KINDS, "dollars", "seconds")
    who = (model_calls.c.aar, model_calls.c.model)
    sums = [func.sum(model_calls.c[kind]).label(kind) for kind in kinds]
    query = select(*who, func.count().label("calls"), *sums).group_by(*who).order_by(*who)
    return [ModelSpend.model_validate(dict(row._mapping)) for row in await tx.execute(query)]


async def reserve(tx: AsyncConnection, aar: str, new: NewReservation) -> None:
    """Hold the worst case of a call. It replaces what this AAR held, unless it runs `beside`."""
    mine = reservations.c.aar == aar
    same = reservations.c.call == new.call
    await tx.execute(delete(reservations).where(mine, same) if new.beside else _all(aar))
    until = (parse_iso(now_iso()) + timedelta(seconds=RESERVED_S)).isoformat(
        timespec="microseconds"
    )
    values = {"call": new.call, "dollars": new.dollars, "tokens": new.tokens}
    await tx.execute(insert(reservations).values(aar=aar, expires_at=until, **values))


async def release(tx: AsyncConnection, aar: str, call: str | None = None) -> None:
    """Release the reservation of one call, or all that the AAR holds."""
    gone = _all(aar)
    await tx.execute(gone if call is None else gone.where(reservations.c.call == call))


def _all(aar: str) -> Delete:
    return delete(reservations).where(reservations.c.aar == aar)


async def held(
    tx: AsyncConnection, new: NewReservation | None = None, aar: str | None = None
) -> tuple[Held, Held]:
    """Return what is reserved by the AAR, and by all.

    Only live reservations count, less what `new` of this AAR would replace.
    """
    live, mine = reservations.c.expires_at > now_iso(), reservations.c.aar == aar
    kept = [live]
    if new is not None:
        kept.append(not_(and_(mine, reservations.c.call == new.call) if new.beside else mine))
    own = await _sums(tx, *kept, mine)
    return own, await _sums(tx, *kept)


async def _sums(tx: AsyncConnection, *where: ColumnElement[bool]) -> Held:
    columns = (reservations.c.dollars, reservations.c.tokens)
    row = (await tx.execute(select(*map(func.sum, columns)).where(*where))).one()
    return Held(*(float(amount or 0) for amount in row))


ROW = 1
_BUDGET = select(budget.c.record).where(budget.c.id == ROW)


async def budget_of_campaign(tx: AsyncConnection) -> CampaignBudget:
    record = await tx.scalar(_BUDGET)
    return CampaignBudget() if record is None else CampaignBudget.model_validate(record)


async def put_budget(tx: AsyncConnection, new: CampaignBudget) -> None:
    await tx.execute(delete(budget))
    await tx.execute(insert(budget).values(id=ROW, record=new.model_dump(mode="json")))


async def reserve_operator_call(tx: AsyncConnection, new: OperatorReservation) -> OperatorCall:
    """Reserve a call of the operator.

    Raises BudgetExhausted if a cap could be passed, Conflict for a call that is known.
    """
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


async def book_operator_call(tx: AsyncConnection, call: OperatorCall) -> bool:
    """Book what a call did cost, reserved or not: it is a fact.

    Returns False if it is booked already. Raises Conflict if it was booked with other figures.
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


async def unbooked_operator_calls(tx: AsyncConnection, purpose: Purpose) -> list[OperatorCall]:
    """Return calls under way or cut off, with the most that they can cost; oldest first."""
    query = select(calls).where(calls.c.purpose == purpose, calls.c.booked.is_(False))
    return [_call(row) for row in await tx.execute(query.order_by(calls.c.seq))]


async def operator_spend(tx: AsyncConnection) -> list[OperatorSpend]:
    """Return the operator's spend, summed up for each purpose and model."""
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
