"""The append-only log in the database: append, read, verify.

Covered: an entry that was changed, removed, inserted or moved; truncation and rewriting, given
exported heads; a score, submission or verification in its table that is not as the log has it.
Not covered: see core.chain and store.heads.
"""

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.canonical import canonical_json
from aarlab.core.chain import GENESIS, LogEntry, LogHead, next_hash, verify_chain
from aarlab.core.clock import now_iso
from aarlab.core.errors import Damaged, NotFound
from aarlab.core.wire import Head, LogRecord
from aarlab.store.outage import connecting, reason, talking
from aarlab.store.place import Place, read_options, reading_engine, shown
from aarlab.store.tables import log
from aarlab.store.tamper import check_tables

ROWS_AT_ONCE = 500
Body = dict[str, Any]
_LAST = select(log.c.seq, log.c.hash).order_by(log.c.seq.desc()).limit(1)
_NEW = insert(log)


async def append(tx: AsyncConnection, kind: str, body: Body, at: str | None = None) -> None:
    """Add one entry inside the caller's write transaction."""
    await append_all(tx, [(kind, body)], at)


async def append_all(
    tx: AsyncConnection, bodies: Sequence[tuple[str, Body]], at: str | None = None
) -> None:
    """Add entries of one moment, in their order."""
    last, when, rows = await head(tx), at or now_iso(), []
    for kind, body in bodies:
        seq = last.seq + 1
        last = Head(seq=seq, hash=next_hash(last.hash, seq, kind, when, body))
        text = canonical_json(body)
        rows.append({"seq": seq, "kind": kind, "at": when, "body": text, "hash": last.hash})
    await tx.execute(_NEW, rows)


async def head(tx: AsyncConnection) -> Head:
    row = (await tx.execute(_LAST)).first()
    return Head(seq=0, hash=GENESIS) if row is None else Head(seq=row.seq, hash=row.hash)


async def entries(tx: AsyncConnection, after: int = 0, limit: int = 1000) -> list[LogRecord]:
    query = select(log).where(log.c.seq > after).order_by(log.c.seq).limit(limit)
    return [_record(row) for row in await tx.execute(query)]


async def of_kinds(tx: AsyncConnection, kinds: Sequence[str], after: int = 0) -> list[LogRecord]:
    """Entries of some kinds, oldest first."""
    query = select(log).where(log.c.seq > after, log.c.kind.in_(kinds)).order_by(log.c.seq)
    return [_record(row) for row in await tx.execute(query)]


async def newest(tx: AsyncConnection, last: int, limit: int, kind: str) -> list[LogRecord]:
    """Entries of one kind up to number `last`, newest first."""
    query = select(log).where(log.c.seq <= last, log.c.kind == kind)
    rows = await tx.execute(query.order_by(log.c.seq.desc()).limit(limit))
    return [_record(row) for row in rows]


def _record(row: Any) -> LogRecord:
    body = json.loads(row.body)
    return LogRecord(seq=row.seq, kind=row.kind, at=row.at, body=body, hash=row.hash)


def verify_log(place: Place, *heads: LogHead) -> LogHead:
    """`check_log` for a caller without an event loop."""
    return asyncio.run(check_log(place, *heads))


async def check_log(place: Place, *heads: LogHead) -> LogHead:
    """Check the whole chain of a database that may be in use, the tables against it, and `heads`.

    Reads only. Returns the head; raises NotFound without a database, Damaged naming the first
    entry or row that does not fit, Unavailable where the database does not answer.
    """
    if isinstance(place, Path) and not place.is_file():
        raise NotFound(f"no database at {place}; has this campaign been started?")
    name, engine = shown(place), reading_engine(place)
    try:
        with talking(name):
            async with AsyncExitStack() as opened:
                with connecting(name):
                    plain = await opened.enter_async_context(engine.connect())
                reader = await plain.execution_options(**read_options(place))
                async with reader.begin():  # one view of log and tables, while a server writes on
                    return await reader.run_sync(_checked, heads)
    except DBAPIError as error:
        raise Damaged(f"{name} cannot be read as a log: {reason(error)}") from error
    finally:
        await engine.dispose()


def _checked(reader: Connection, heads: tuple[LogHead, ...]) -> LogHead:
    head = verify_chain(_stored(reader), *heads)
    check_tables(reader, _stored(reader))
    return head


def _stored(reader: Connection) -> Iterator[LogEntry]:
    rows = reader.execution_options(yield_per=ROWS_AT_ONCE).execute(select(log).order_by(log.c.seq))
    for row in rows:
        try:
            parsed = json.loads(row.body)
        except ValueError:
            raise Damaged(f"log entry {row.seq} ({row.kind}) is not JSON: it was changed") from None
        yield LogEntry(row.seq, row.kind, row.at, parsed, row.hash)
