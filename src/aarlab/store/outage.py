"""A database that does not answer is `Unavailable`: logged with its reason, told without it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from aarlab.core.errors import BadInput, Unavailable

logger = logging.getLogger("aarlab.store")

# PostgreSQL: connection lost, shutting down or starting, too many clients, lock or session
# timed out, and what is read-only for now (a standby after a failover).
GONE = ("08", "57P", "53300", "55P03", "25P03", "25006")
NO_NUL = "22021"
TOLD = "the platform's database does not answer: send the same request again, with the same key"


@contextmanager
def connecting(place: str) -> Iterator[None]:
    """Whatever keeps a connection from being made is an outage."""
    try:
        yield
    except (DBAPIError, PoolTimeout, OSError) as error:
        raise _told(place, error) from error


@contextmanager
def talking(place: str) -> Iterator[None]:
    """A connection that breaks on the way; other errors of a statement pass through."""
    try:
        yield
    except TimeoutError as error:
        raise _told(place, error) from error
    except DBAPIError as error:
        if sqlstate(error) == NO_NUL:
            raise BadInput("text with a NUL character is refused") from None
        if not _gone(error):
            raise
        raise _told(place, error) from error


def sqlstate(error: DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", None) or "")


def reason(error: BaseException | None) -> str:
    """One line from the driver; it holds no values and no password."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return " ".join(f"{type(cause).__name__}: {cause}".split())[:300]


def _gone(error: DBAPIError) -> bool:
    if error.connection_invalidated or sqlstate(error).startswith(GONE):
        return True
    return "database is locked" in str(error.orig)


def _told(place: str, error: Exception) -> Unavailable:
    logger.warning("database %s: %s", place, reason(error))
    return Unavailable(TOLD)
