"""What all servers of one database must share, so that they act as one: keys and snapshots.

A second server with another operator token would hand out tokens that do not work; one with
another folder of snapshots could not read what the first has frozen. Both are refused at start.
"""

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import Conflict
from aarlab.store.tables import claims


async def claimed(tx: AsyncConnection, name: str) -> str | None:
    value: str | None = await tx.scalar(select(claims.c.value).where(claims.c.name == name))
    return value


async def claim(tx: AsyncConnection, name: str, value: str) -> None:
    """Record a value on first use; raise Conflict where the database was used with another."""
    known = await claimed(tx, name)
    if known is None:
        await tx.execute(insert(claims).values(name=name, value=value))
    elif known != value:
        raise Conflict(
            f"this database belongs to a server with another {name}: give this one the same "
            "platform/tokens folder and the same blobs, or a database of its own"
        )
