"""The ledger: spend, paid model calls, and what is reserved for calls under way.

`spend_totals` is kept in the transaction of each entry, so that a check of a budget reads a few
rows, however long the campaign is.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import Delete, bindparam, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import now_iso, parse_iso
from aarlab.core.errors import Conflict
from aarlab.core.ledger import TOKEN_KINDS
from aarlab.core.wire_ledger import ModelCall, ModelSpend, NewReservation, Spend
from aarlab.store.tables import model_calls, reservations, spend, spend_totals

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
    """Count a call and release its reservation; False where it is recorded already.

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
    """By kind, of one AAR or of all together."""
    rows = await (tx.execute(_SPENT) if aar is None else tx.execute(_OWN_SPENT, {"aar": aar}))
    return {kind: float(sum_) for kind, sum_ in rows}


async def model_spend(tx: AsyncConnection) -> list[ModelSpend]:
    """Calls summed up for each AAR and model."""
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
    """Of one call, or all that the AAR holds."""
    gone = _all(aar)
    await tx.execute(gone if call is None else gone.where(reservations.c.call == call))


def _all(aar: str) -> Delete:
    return delete(reservations).where(reservations.c.aar == aar)


async def held(
    tx: AsyncConnection, new: NewReservation | None = None, aar: str | None = None
) -> tuple[Held, Held]:
    """Reserved by the AAR, and by all, less what `new` of this AAR would replace; live ones."""
    query = select(reservations).where(reservations.c.expires_at > now_iso())
    own = total = Held()
    for row in await tx.execute(query):
        mine = row.aar == aar
        if mine and new is not None and (not new.beside or row.call == new.call):
            continue
        total = Held(total.dollars + row.dollars, total.tokens + row.tokens)
        if mine:
            own = Held(own.dollars + row.dollars, own.tokens + row.tokens)
    return own, total
