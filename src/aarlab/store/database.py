"""The database of one run: SQLite in WAL mode, or PostgreSQL, behind SQLAlchemy's async engine.

A write is one transaction that holds state, log entries and idempotency record together: a
process killed between any two lines leaves all of it or none. Writes are serial over all servers
of a database: SQLite begins them IMMEDIATE, PostgreSQL takes one advisory lock.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from aarlab.core.errors import Conflict, Unavailable
from aarlab.store.migrate import migrate
from aarlab.store.outage import connecting, reason, talking
from aarlab.store.place import Place, read_options, reading_engine, shown, writing_engine

WRITE = {"aarlab_write": True}
WRITERS = 0x6161726C6162  # "aarlab": the advisory lock that every write holds


class Database:
    """Connections to one database. An SQLite file has one server (a lock file beside it)."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._shown = shown(place)
        self._lock = (
            FileLock(f"{place}.lock", timeout=0, mode=0o600) if isinstance(place, Path) else None
        )
        # Writers of this process queue here, so that one connection at most waits for the lock.
        self._writer = asyncio.Lock()
        self._engine = writing_engine(place)
        self._reader = reading_engine(place) if isinstance(place, Path) else self._engine

    async def open(self) -> None:
        """Bring the tables up to date; raise Conflict if another server has the SQLite file."""
        if self._lock is not None:
            try:
                self._lock.acquire()
            except Timeout:
                raise Conflict(
                    f"another server is running on {self._shown}: stop it, or use another folder"
                ) from None
        try:
            async with self.write() as tx:
                await tx.run_sync(migrate)
        except Unavailable as error:
            await self.close()
            raise Unavailable(
                f"{self._shown} cannot be opened: {reason(error.__cause__)}"
            ) from None
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        for engine in (self._engine, self._reader):
            await engine.dispose()
        if self._lock is not None:
            self._lock.release()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A consistent view; it sees no write that is not committed."""
        async with self._transaction(self._engine, read_options(self._place)) as connection:
            yield connection

    @asynccontextmanager
    async def read_much(self) -> AsyncIterator[AsyncConnection]:
        """As `read`, for views of a whole campaign: other requests go on meanwhile."""
        async with self._transaction(self._reader, read_options(self._place)) as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """One transaction, taken for writing at once: what it reads stays true."""
        async with self._writer, self._transaction(self._engine, WRITE) as connection:
            if not isinstance(self._place, Path):
                # Under READ COMMITTED, what follows sees all that was committed before the lock.
                await connection.execute(select(func.pg_advisory_xact_lock(WRITERS)))
            yield connection

    @property
    def shared(self) -> bool:
        """Other servers may write to it at the same time."""
        return not isinstance(self._place, Path)

    @asynccontextmanager
    async def brief(self) -> AsyncIterator[AsyncConnection]:
        """A write to rows of its own that is no part of the log: it waits for no other write."""
        async with self._transaction(self._engine, WRITE) as connection:
            yield connection

    @asynccontextmanager
    async def _transaction(
        self, engine: AsyncEngine, options: dict[str, Any]
    ) -> AsyncIterator[AsyncConnection]:
        with talking(self._shown):
            async with AsyncExitStack() as opened:
                with connecting(self._shown):
                    plain = await opened.enter_async_context(engine.connect())
                connection = await plain.execution_options(**options)
                async with connection.begin():
                    yield connection
