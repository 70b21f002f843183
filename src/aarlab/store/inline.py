"""SQLite without a thread: a connection as aiosqlite's; statements run where they are awaited.

SQLite is a library. A statement of the platform takes some 20 microseconds; handing it to another
thread and back takes several times that. With WAL no reader waits for a writer, and writers of this
process queue before they begin, so nothing here waits for a lock for long.
Not covered: a query that reads megabytes keeps the event loop busy; `Database.read_much` is for
those.
"""

import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

CACHED_STATEMENTS = 512  # prepared once for each connection


class InlineCursor:
    """The part of aiosqlite's cursor that SQLAlchemy's adapter uses."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._cursor = connection.cursor()

    async def __aenter__(self) -> "InlineCursor":
        return self

    async def execute(self, sql: str, parameters: Any = ()) -> "InlineCursor":
        self._cursor.execute(sql, parameters)
        return self

    async def executemany(self, sql: str, parameters: Iterable[Any]) -> "InlineCursor":
        self._cursor.executemany(sql, parameters)
        return self

    async def fetchall(self) -> list[Any]:
        return self._cursor.fetchall()

    async def close(self) -> None:
        self._cursor.close()

    @property
    def description(self) -> Any:
        return self._cursor.description

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    @property
    def lastrowid(self) -> int | None:
        return self._cursor.lastrowid


class InlineConnection:
    """The part of aiosqlite's connection that SQLAlchemy's adapter uses."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def cursor(self) -> InlineCursor:
        return InlineCursor(self._connection)

    async def create_function(self, *words: Any, **options: Any) -> None:
        self._connection.create_function(*words, **options)

    async def commit(self) -> None:
        self._connection.commit()

    async def rollback(self) -> None:
        self._connection.rollback()

    async def close(self) -> None:
        self._connection.close()

    def stop(self) -> None:
        self._connection.close()


def connector(pragmas: Iterable[str]) -> Callable[..., Any]:
    """Return a connector for SQLAlchemy's `async_creator_fn`.

    The driver does not begin transactions by itself.
    """

    async def connect(database: str, **options: Any) -> InlineConnection:
        made = sqlite3.connect(
            database, **{**options, "isolation_level": None}, cached_statements=CACHED_STATEMENTS
        )
        for pragma in pragmas:
            made.execute(pragma)
        return InlineConnection(made)

    return connect
