"""A write that is sent twice happens once: the first answer is stored with the write."""

from sqlalchemy import bindparam, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import Conflict
from aarlab.store.tables import idempotency

# Built once, as on every path that a load test shows: building a statement costs more than it does.
_KNOWN = select(idempotency.c.request_sha256, idempotency.c.answer).where(
    idempotency.c.actor == bindparam("actor"), idempotency.c.key == bindparam("key")
)
_NEW = insert(idempotency)


async def recall(tx: AsyncConnection, actor: str, key: str, request_sha256: str) -> str | None:
    """The stored answer (JSON), or None for a new key; Conflict if the key had another request."""
    row = (await tx.execute(_KNOWN, {"actor": actor, "key": key})).first()
    if row is None:
        return None
    if row.request_sha256 != request_sha256:
        raise Conflict(f"idempotency key {key!r} was used for another request: take a fresh key")
    return str(row.answer)


async def remember(
    tx: AsyncConnection, actor: str, key: str, request_sha256: str, answer: str
) -> None:
    values = {"actor": actor, "key": key, "request_sha256": request_sha256, "answer": answer}
    await tx.execute(_NEW, values)
