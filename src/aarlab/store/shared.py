"""State that all servers of one database share: keys, snapshots, stored answers and rates.

A second server with another operator token would issue tokens that do not work. One with another
folder of snapshots could not read what the first has frozen. Both are refused at start.

A write that is sent twice happens once: the first answer is stored with the write. A write of an
older life of an AAR is refused in the transaction that it would be part of.

Rates that hold over all servers are token buckets, one row each. A server takes several tokens at
once, so most requests do not ask the database. Times are the database's, whose clock all servers
share.

Covered: an AAR that spreads its requests over servers gets one rate.
Not covered: what a server took and did not use is lost with it, so an AAR gets that much less.
"""

from typing import Any, NamedTuple

from sqlalchemy import and_, bindparam, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import Conflict, Superseded
from aarlab.store.tables import aars, claims, idempotency, paces


async def claimed(tx: AsyncConnection, name: str) -> str | None:
    value: str | None = await tx.scalar(select(claims.c.value).where(claims.c.name == name))
    return value


async def claim(tx: AsyncConnection, name: str, value: str) -> None:
    """Record a value on first use; raise Conflict if the database was used with another."""
    known = await claimed(tx, name)
    if known is None:
        await tx.execute(insert(claims).values(name=name, value=value))
    elif known != value:
        raise Conflict(
            f"this database belongs to a server with another {name}: give this one the same "
            "platform/tokens folder and the same blobs, or a database of its own"
        )


_now = func.extract("epoch", func.clock_timestamp())
_this = (paces.c.what == bindparam("what_"), paces.c.name == bindparam("name_"))
_ROW = select(paces.c.left, paces.c.at, _now.label("now")).where(*_this).with_for_update()
_PUT = update(paces).where(*_this).values(left=bindparam("left_"), at=bindparam("at_"))
_NEW = (
    postgresql_insert(paces)
    .values(what=bindparam("what_"), name=bindparam("name_"), left=bindparam("left_"), at=_now)
    .on_conflict_do_nothing()
)


class Rate(NamedTuple):
    """Tokens per second, up to `burst`; `what` names the bucket."""

    what: str
    per_s: float
    burst: int


async def take(tx: AsyncConnection, rate: Rate, name: str, most: int) -> tuple[int, float]:
    """Take up to `most` tokens; return their number and the wait for the next one in seconds.

    The wait is 0 if any was taken. Only on PostgreSQL: an SQLite file has one server, which counts
    in its memory.
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


# Built once, as on every path that a load test shows: building a statement costs more than it does.
_KNOWN = select(idempotency.c.request_sha256, idempotency.c.answer).where(
    idempotency.c.actor == bindparam("actor"), idempotency.c.key == bindparam("key")
)
_LIFE = select(aars.c.life).where(aars.c.name == bindparam("actor"))
_KNOWN_OF_LIFE = (
    select(aars.c.life, idempotency.c.request_sha256, idempotency.c.answer)
    .outerjoin(
        idempotency,
        and_(idempotency.c.actor == aars.c.name, idempotency.c.key == bindparam("key")),
    )
    .where(aars.c.name == bindparam("actor"))
)
_NEW_ANSWER = insert(idempotency)


def refuse_older(aar: str, life: int, newest: int) -> None:
    """Raise Superseded unless `life` is the newest one of the AAR."""
    if life != newest:
        raise Superseded(
            f"a newer process of {aar} has begun (its life {newest}; this is life {life}): this "
            "one must stop"
        )


async def check_life(tx: AsyncConnection, aar: str, life: int) -> None:
    """Raise Superseded unless `life` is the newest one of the AAR."""
    refuse_older(aar, life, await tx.scalar(_LIFE, {"actor": aar}) or 0)


async def recall(
    tx: AsyncConnection, actor: str, key: str, request_sha256: str, life: int | None = None
) -> str | None:
    """Return the stored answer (JSON), or None for a new key.

    Raises Superseded if `life` is not the newest one of the AAR `actor`, and Conflict if the key
    had another request.
    """
    asked = {"actor": actor, "key": key}
    row: Any
    if life is None:
        row = (await tx.execute(_KNOWN, asked)).first()
    else:
        row = (await tx.execute(_KNOWN_OF_LIFE, asked)).one()
        refuse_older(actor, life, row.life)
    if row is None or row.request_sha256 is None:
        return None
    if row.request_sha256 != request_sha256:
        raise Conflict(f"idempotency key {key!r} was used for another request: take a fresh key")
    return str(row.answer)


async def remember(
    tx: AsyncConnection, actor: str, key: str, request_sha256: str, answer: str
) -> None:
    values = {"actor": actor, "key": key, "request_sha256": request_sha256, "answer": answer}
    await tx.execute(_NEW_ANSWER, values)
