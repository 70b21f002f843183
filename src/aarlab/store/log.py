"""The append-only log in the database: append, read, verify, export its head.

Covered: an entry that was changed, removed, inserted or moved; truncation, given an exported head;
a score, submission or verification in its table that is not as the log has it.
Not covered: see core.chain.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.canonical import canonical_json
from aarlab.core.chain import GENESIS, LogEntry, LogHead, next_hash, verify_chain
from aarlab.core.clock import now_iso
from aarlab.core.errors import BadInput, Damaged, NotFound
from aarlab.core.files import write_json
from aarlab.core.wire import Head, LogRecord
from aarlab.store.tables import log
from aarlab.store.tamper import check_tables

Body = dict[str, Any]


async def append(tx: AsyncConnection, kind: str, body: Body, at: str | None = None) -> None:
    """Add one entry inside the caller's write transaction."""
    last, when = await head(tx), at or now_iso()
    seq = last.seq + 1
    await tx.execute(
        insert(log).values(
            seq=seq,
            kind=kind,
            at=when,
            body=canonical_json(body),
            hash=next_hash(last.hash, seq, kind, when, body),
        )
    )


async def head(tx: AsyncConnection) -> Head:
    row = (
        await tx.execute(select(log.c.seq, log.c.hash).order_by(log.c.seq.desc()).limit(1))
    ).first()
    return Head(seq=0, hash=GENESIS) if row is None else Head(seq=row.seq, hash=row.hash)


async def entries(tx: AsyncConnection, after: int = 0, limit: int = 1000) -> list[LogRecord]:
    query = select(log).where(log.c.seq > after).order_by(log.c.seq).limit(limit)
    return [
        LogRecord(seq=r.seq, kind=r.kind, at=r.at, body=json.loads(r.body), hash=r.hash)
        for r in await tx.execute(query)
    ]


def verify_log(database: Path, exported: LogHead | None = None) -> LogHead:
    """Check the whole chain of a database file that may be in use, and the tables against it.

    Returns the head; raises NotFound without a database, Damaged naming the first entry or row that
    does not fit.
    """
    if not database.is_file():
        raise NotFound(f"no database at {database}; has this campaign been started?")
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as reader:
            reader.execute("BEGIN")  # one view of log and tables, while a server writes on
            head = verify_chain(_stored(reader), exported)
            check_tables(reader, _stored(reader))
            return head
    except sqlite3.DatabaseError as error:
        raise Damaged(f"{database} cannot be read as a log: {error}") from error


def _stored(reader: sqlite3.Connection) -> Iterator[LogEntry]:
    for seq, kind, at, body, digest in reader.execute(
        "SELECT seq, kind, at, body, hash FROM log ORDER BY seq"
    ):
        try:
            parsed = json.loads(body)
        except ValueError:
            raise Damaged(f"log entry {seq} ({kind}) is not JSON: it was changed") from None
        yield LogEntry(seq, kind, at, parsed, digest)


def export_head(path: Path, head: LogHead) -> None:
    write_json(path, {"seq": head.seq, "hash": head.hash})


def read_head(path: Path) -> LogHead:
    """A head written by `export_head`; raises BadInput where the file is something else."""
    try:
        known = Head.model_validate_json(path.read_text())
    except (OSError, ValueError):
        raise BadInput(f"{path} is not an exported log head; write one: aarlab log head") from None
    return LogHead(known.seq, known.hash)
