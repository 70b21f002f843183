"""Where the database is: an SQLite file (a Path) or PostgreSQL (a URL), and its engine.

Database outages become `Unavailable`. The cause is logged but not sent to clients.

Covered: a password never appears in a message, and is refused on a command line.
Not covered: who may read the environment or the file that holds it.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, event, make_url
from sqlalchemy.engine import Connection
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from aarlab.core.errors import BadInput, Unavailable
from aarlab.store.inline import connector

Place = Path | str

BUSY_S = 5.0
PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    f"PRAGMA busy_timeout={BUSY_S * 1000:.0f}",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA foreign_keys=ON",
)
SCHEMES = ("postgres", "postgresql", "postgresql+asyncpg")
OPTIONS = {"host", "port", "ssl", "sslmode", "passfile", "password"}
# A server that hangs or loses its network while it holds the lock is cut off by the database.
SESSION = {
    "application_name": "aarlab",
    "lock_timeout": "30s",
    "idle_in_transaction_session_timeout": "60s",
    "tcp_keepalives_idle": "30",
}
CONNECT_S, COMMAND_S = 10, 60


def database_url(text: str) -> URL:
    """Return a PostgreSQL URL for asyncpg.

    Raises BadInput, without repeating what it was given.
    """
    form = "expected postgresql://USER@HOST:PORT/DATABASE"
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise BadInput(f"the database URL cannot be parsed: {form}") from None
    if url.drivername not in SCHEMES:
        raise BadInput(f"the database URL is not one of PostgreSQL: {form}")
    if unknown := sorted(set(url.query) - OPTIONS):
        raise BadInput(f"the database URL has options that are not known: {', '.join(unknown)}")
    if "sslmode" in url.query:
        url = url.update_query_dict({"ssl": url.query["sslmode"]}).difference_update_query(
            ["sslmode"]
        )
    return url.set(drivername="postgresql+asyncpg")


def check_argument(text: str) -> None:
    """Raise BadInput on a password: every user of a machine can read its command lines."""
    url = database_url(text)
    if url.password is not None or "password" in url.query:
        raise BadInput(
            "a password does not belong on a command line: give the database in the variable "
            "AARLAB_SERVER_DATABASE or in a file of mode 600 (--database-file), or keep the "
            "password in ~/.pgpass"
        )


def shown(place: Place) -> str:
    """Return the place for messages, without user, password and options."""
    if isinstance(place, Path):
        return str(place)
    url = database_url(place)
    host = url.host or url.query.get("host", "localhost")
    return f"postgresql://{host}{f':{url.port}' if url.port else ''}/{url.database or ''}"


def writing_engine(place: Place) -> AsyncEngine:
    """Return an engine that writes.

    SQLite's statements run in the thread that awaits them (see `inline`).
    """
    if isinstance(place, Path):
        url = URL.create("sqlite+aiosqlite", database=str(place))
        return _sqlite(url, {"async_creator_fn": connector(PRAGMAS)})
    return _postgresql(place)


def reading_engine(place: Place) -> AsyncEngine:
    """Return an engine for a reader that changes nothing and may take long.

    It is read-only, in a thread of its own.
    """
    if isinstance(place, Path):
        query = {"mode": "ro", "uri": "true"}
        name = place.resolve().as_uri()
        url = URL.create("sqlite+aiosqlite", database=name, query=query)
        return _sqlite(url, {"timeout": BUSY_S, "isolation_level": None})
    return _postgresql(place)


def read_options(place: Place) -> dict[str, Any]:
    """Return options for one view over several statements that cannot write."""
    if isinstance(place, Path):
        return {}
    return {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


def _sqlite(url: URL, connect: dict[str, Any]) -> AsyncEngine:
    # hide_parameters: a statement that fails must not carry its values into a log.
    engine = create_async_engine(url, hide_parameters=True, connect_args=connect)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("aarlab_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgresql(place: str) -> AsyncEngine:
    try:
        return create_async_engine(
            database_url(place),
            hide_parameters=True,
            pool_pre_ping=True,
            isolation_level="READ COMMITTED",
            connect_args={
                "timeout": CONNECT_S,
                "command_timeout": COMMAND_S,
                "server_settings": SESSION,
            },
        )
    except ModuleNotFoundError:
        raise BadInput("PostgreSQL needs a driver: pip install 'aarlab[postgres]'") from None


logger = logging.getLogger("aarlab.store")

# PostgreSQL: connection lost, shutting down or starting, too many clients, lock or session
# timed out, and what is read-only for now (a standby after a failover).
GONE = ("08", "57P", "53300", "55P03", "25P03", "25006")
NO_NUL = "22021"
NO_ANSWER = (
    "the platform's database does not answer: send the same request again, with the same key"
)


@contextmanager
def connecting(place: str) -> Iterator[None]:
    """Raise Unavailable for whatever keeps a connection from being made."""
    try:
        yield
    except (DBAPIError, PoolTimeout, OSError) as error:
        raise _unavailable(place, error) from error


@contextmanager
def talking(place: str) -> Iterator[None]:
    """Raise Unavailable for a connection that breaks on the way.

    Raises BadInput for text with a NUL character. Other errors of a statement pass through.
    """
    try:
        yield
    except TimeoutError as error:
        raise _unavailable(place, error) from error
    except DBAPIError as error:
        if sqlstate(error) == NO_NUL:
            raise BadInput("text with a NUL character is refused") from None
        if not _gone(error):
            raise
        raise _unavailable(place, error) from error


def sqlstate(error: DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", None) or "")


def reason(error: BaseException | None) -> str:
    """Return one line from the driver. It does not hold values or a password."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(f"{type(cause).__name__}: {cause}".split())[:300]


def is_damaged(error: BaseException) -> bool:
    """Return whether SQLite says that its file is none, or not whole."""
    said = str(error.orig) if isinstance(error, DBAPIError) else ""
    return "malformed" in said or "is not a database" in said


def _gone(error: DBAPIError) -> bool:
    if error.connection_invalidated or sqlstate(error).startswith(GONE):
        return True
    return "database is locked" in str(error.orig)


def _unavailable(place: str, error: Exception) -> Unavailable:
    logger.warning("database %s: %s", place, reason(error))
    return Unavailable(NO_ANSWER)
