"""Rates that hold over all servers of one database: token buckets, one row each.

A server takes several tokens at once, so that most requests ask nothing here. Times are the
database's, whose clock all servers share.
Covered: an AAR that spreads its requests over servers gets one rate.
Not covered: what a server took and did not use is lost with it: an AAR gets that much less.
"""

from typing import Any, NamedTuple

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.store.tables import paces

_now = func.extract("epoch", func.clock_timestamp())
_this = (paces.c.what == bindparam("what_"), paces.c.name == bindparam("name_"))
_ROW = select(paces.c.left, paces.c.at, _now.label("now")).where(*_this).with_for_update()
_PUT = update(paces).where(*_this).values(left=bindparam("left_"), at=bindparam("at_"))
_NEW = (
    insert(paces)
    .values(what=bindparam("what_"), name=bindparam("name_"), left=bindparam("left_"), at=_now)
    .on_conflict_do_nothing()
)


class Rate(NamedTuple):
    """Tokens a second, up to `burst`; `what` names the bucket."""

    what: str
    per_s: float
    burst: int


async def take(tx: AsyncConnection, rate: Rate, name: str, most: int) -> tuple[int, float]:
    """How many tokens were taken, `most` at best, and seconds until there is one if there is none.

    Only on PostgreSQL: an SQLite file has one server, which counts in its memory.
    """
    key: dict[str, Any] = {"what_": rate.what, "name_": name}
    row = (await tx.execute(_ROW, key)).first()
    if row is None:
        await tx.execute(_NEW, {**key, "left_": float(rate.burst)})
        row = (await tx.execute(_ROW, key)).one()
    passed_s = max(float(row.now) - row.at, 0.0)
    left = min(row.left + passed_s * rate.per_s, float(rate.burst))
    taken = min(int(left), most)
    await tx.execute(_PUT, {**key, "left_": left - taken, "at_": float(row.now)})
    return taken, (0.0 if taken else (1 - left) / rate.per_s)
