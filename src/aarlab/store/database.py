"""The database of one run: SQLite in WAL mode behind SQLAlchemy's async engine.

A write is one transaction that holds state, log entries and idempotency record together: a
process killed between any two lines leaves all of it or none.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import URL, event
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from aarlab.core.errors import Conflict
from aarlab.store.tables import metadata

PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA busy_timeout=5000",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA foreign_keys=ON",
)


class Database:
    """Connections to one SQLite file; one process writes it at a time (a lock file beside it)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(f"{path}.lock", timeout=0, mode=0o600)
        self._writer = asyncio.Lock()
        # hide_parameters: a statement that fails must not carry its values into a log.
        self._engine = create_async_engine(
            URL.create("sqlite+aiosqlite", database=str(path)), hide_parameters=True
        )
        event.listen(self._engine.sync_engine, "connect", _configure)
        event.listen(self._engine.sync_engine, "begin", _begin)

    async def open(self) -> None:
        """Create the tables where missing; raise Conflict if another server has the database."""
        try:
            self._lock.acquire()
        except Timeout:
            raise Conflict(
                f"another server is running on {self._path}: stop it, or use another run folder"
            ) from None
        async with self.write() as tx:
            await tx.run_sync(metadata.create_all)

    async def close(self) -> None:
        await self._engine.dispose()
        self._lock.release()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A consistent view; it sees no write that is not committed."""
        async with self._engine.connect() as connection, connection.begin():
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """One transaction, taken for writing at once: what it reads stays true."""
        async with self._writer, self._engine.connect() as plain:
            connection = await plain.execution_options(aarlab_write=True)
            async with connection.begin():
                yield connection


def _configure(connection: Any, _record: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("aarlab_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
