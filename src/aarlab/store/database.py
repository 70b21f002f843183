"""The database of one run: SQLite in WAL mode, or PostgreSQL, behind SQLAlchemy's async engine.

A write is one transaction that holds state, log entries and idempotency record together. A process
killed between any two lines leaves all of it or none. Writes are serial over all servers of a
database: SQLite begins them IMMEDIATE, PostgreSQL takes one advisory lock.

A database is brought to the tables of this version inside the caller's write transaction.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from filelock import FileLock, Timeout
from sqlalchemy import Connection, func, inspect, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from aarlab.core.errors import Conflict, Unavailable
from aarlab.store.place import (
    Place,
    connecting,
    read_options,
    reading_engine,
    reason,
    shown,
    talking,
    writing_engine,
)
from aarlab.store.tables import metadata

SCRIPTS = Path(__file__).parent / "migrations"


def migrate(connection: Connection) -> None:
    """Run the migrations that are missing.

    Raises Conflict, and changes nothing, on a database of a version that is not known, on one that
    has tables of these names and no version, and on one whose columns differ.
    """
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    version = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if version is not None and version not in known:
        raise Conflict(
            f"the database is of version {version!r}, which this aarlab does not know: it is newer "
            "(upgrade aarlab), or of a state before version 0.1.0 (use another database)"
        )
    if version is None:
        _check_empty(connection)
    command.upgrade(config, "head")
    _check_columns(connection)


def _check_empty(connection: Connection) -> None:
    taken = sorted(set(metadata.tables) & set(inspect(connection).get_table_names()))
    if taken:
        raise Conflict(
            f"the database has tables with names of aarlab ({', '.join(taken)}) and no version of "
            "it: use another one"
        )


def _check_columns(connection: Connection) -> None:
    found = inspect(connection)
    for name, table in metadata.tables.items():
        missing = set(table.c.keys()) - {column["name"] for column in found.get_columns(name)}
        if missing:
            raise Conflict(
                f"table {name} has no column {', '.join(sorted(missing))}: the database is not "
                "one of this aarlab; use another one"
            )


WRITE = {"aarlab_write": True}
WRITERS = 0x6161726C6162  # "aarlab": the advisory lock that every write holds


class Database:
    """Connections to one database. An SQLite file has one server (a lock file next to it)."""

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
        """Yield a consistent view. It does not see writes that are not committed."""
        async with self._transaction(self._engine, read_options(self._place)) as connection:
            yield connection

    @asynccontextmanager
    async def read_much(self) -> AsyncIterator[AsyncConnection]:
        """Yield a view as `read`, for a whole campaign. Other requests continue meanwhile."""
        async with self._transaction(self._reader, read_options(self._place)) as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Yield one transaction, taken for writing at once. What it reads stays true."""
        async with self._writer, self._transaction(self._engine, WRITE) as connection:
            if not isinstance(self._place, Path):
                # Under READ COMMITTED, what follows sees all that was committed before the lock.
                await connection.execute(select(func.pg_advisory_xact_lock(WRITERS)))
            yield connection

    @property
    def shared(self) -> bool:
        """Return whether other servers may write to the database at the same time."""
        return not isinstance(self._place, Path)

    @asynccontextmanager
    async def brief(self) -> AsyncIterator[AsyncConnection]:
        """Yield a write to rows of its own that is not part of the log.

        It does not wait for other writes.
        """
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
