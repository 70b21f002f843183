"""Several servers on one database, as far as there can be several."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from aarlab.store.database import Database
from aarlab.store.place import Place


@asynccontextmanager
async def servers(place: Place) -> AsyncIterator[list[Database]]:
    """The servers of a database: PostgreSQL has two, an SQLite file one."""
    opened = [Database(place) for _ in range(1 if isinstance(place, Path) else 2)]
    async with AsyncExitStack() as stack:
        for one in opened:
            await one.open()
            stack.push_async_callback(one.close)
        yield opened
