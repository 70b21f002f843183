"""The append-only log in the database: append, read, verify.

Verification also compares what the tables hold with what the log says was written: neither more,
less nor other.

Covered: an entry that was changed, removed, inserted or moved; truncation and rewriting, given
exported heads; a score, submission or verification in its table that is not as the log has it.
Not covered: see core.hashing and store.heads.
"""

import asyncio
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import now_iso
from aarlab.core.errors import Damaged, NotFound
from aarlab.core.hashing import (
    GENESIS,
    LogEntry,
    LogHead,
    canonical_json,
    content_hash,
    next_hash,
    verify_chain,
)
from aarlab.core.ledger import TOKEN_KINDS
from aarlab.core.wire import Head, LogRecord, Submission
from aarlab.core.wire_ledger import OperatorCall
from aarlab.store.place import (
    Place,
    connecting,
    read_options,
    reading_engine,
    reason,
    shown,
    talking,
)
from aarlab.store.submissions import unpack_predictions
from aarlab.store.tables import (
    audits,
    case_verdicts,
    controls,
    log,
    model_calls,
    operator_calls,
    scores,
    spend_totals,
    submissions,
    verdicts,
    verifications,
)

Facts = dict[str, Any]
LOGGED = {
    "submission": "id",
    "score": "submission",
    "verified": "id",
    "audit": "id",
    "verdict": "id",
    "case_verdict": "id",
    "control": "seq",
    "operator_call": "call",
}
Sums = dict[tuple[str, str], float]
SAME = 1e-9  # sums of the same amounts in another order


def check_tables(reader: Connection, entries: Iterable[LogEntry]) -> None:
    """Raise Damaged naming the row of a table in LOGGED that differs from its entry.

    Of spend and model calls, which may be many, the sums of each AAR are compared.
    """
    logged: dict[str, dict[str, Facts]] = {kind: {} for kind in LOGGED}
    spent, called = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for entry in entries:
        if entry.kind == "spend":
            spent[entry.body["aar"], entry.body["kind"]] += entry.body["amount"]
        if entry.kind == "model_call":
            for kind in (*TOKEN_KINDS, "dollars"):
                called[entry.body["aar"], kind] += entry.body[kind]
        if entry.kind in LOGGED:
            logged[entry.kind][str(entry.body[LOGGED[entry.kind]])] = entry.body
    _compare("submission", logged["submission"], _submissions(reader))
    _compare("score", logged["score"], _scores(reader))
    _compare("verified", logged["verified"], _verified(reader))
    _compare("audit", logged["audit"], _audits(reader))
    _compare("verdict", logged["verdict"], _given(reader, verdicts))
    _compare("case_verdict", logged["case_verdict"], _given(reader, case_verdicts))
    _compare("control", logged["control"], _controls(reader))
    _compare("operator_call", logged["operator_call"], _operator_calls(reader))
    totals = {(row.aar, row.kind): row.amount for row in reader.execute(select(spend_totals))}
    _compare_sums("model_calls", called, _called(reader))
    _compare_sums("spend_totals", spent + called, totals)


def _compare(kind: str, logged: dict[str, Facts], found: Iterable[tuple[str, Facts]]) -> None:
    left = dict(logged)
    for name, facts in found:
        entry = left.pop(name, None)
        if entry is None:
            raise Damaged(f"{kind} {name} is in its table but not in the log: it was added")
        if any(entry.get(key) != value for key, value in facts.items()):
            raise Damaged(f"{kind} {name} is not as the log has it: it was changed")
    if left:
        raise Damaged(
            f"{kind} {next(iter(left))} is in the log but not in its table: it was removed"
        )


def _compare_sums(table: str, logged: Mapping[tuple[str, str], float], found: Sums) -> None:
    for who, kind in {*logged, *found}:
        amounts = logged.get((who, kind), 0.0), found.get((who, kind), 0.0)
        if not math.isclose(*amounts, rel_tol=SAME, abs_tol=SAME):
            raise Damaged(
                f"{table}: {kind} of {who} are {amounts[1]:g}, {amounts[0]:g} in the log: changed"
            )


def _called(reader: Connection) -> Sums:
    kinds = (*TOKEN_KINDS, "dollars")
    sums = [func.sum(model_calls.c[kind]).label(kind) for kind in kinds]
    rows = reader.execute(select(model_calls.c.aar, *sums).group_by(model_calls.c.aar))
    return {(row.aar, kind): float(getattr(row, kind)) for row in rows for kind in kinds}


def _controls(reader: Connection) -> Iterable[tuple[str, Facts]]:
    for row in reader.execute(select(controls)):
        text = content_hash(row.record["text"])
        yield str(row.seq), {"action": row.action, "by": row.record["by"], "text_sha256": text}


def _operator_calls(reader: Connection) -> Iterable[tuple[str, Facts]]:
    for row in reader.execute(select(operator_calls).where(operator_calls.c.booked)):
        yield row.call, {name: getattr(row, name) for name in OperatorCall.model_fields}


def _submissions(reader: Connection) -> Iterable[tuple[str, Facts]]:
    for row in reader.execute(select(submissions)):
        ids, runs = unpack_predictions(row.predictions)
        given = {"task": row.task, "method": row.method, "snapshot": row.snapshot}
        sent = Submission(**given, ids=ids, runs=runs)
        digest = content_hash(sent.model_dump(mode="json"))
        yield row.id, {"aar": row.aar, **given, "predictions_sha256": digest}


def _scores(reader: Connection) -> Iterable[tuple[str, Facts]]:
    for row in reader.execute(select(scores)):
        yield row.submission, {**row.record, "improved": row.improved}


def _audits(reader: Connection) -> Iterable[tuple[str, Facts]]:
    for row in reader.execute(select(audits)):
        yield row.id, {"snapshot": row.snapshot, "sha256": content_hash(row.record)}


def _given(reader: Connection, table: Table) -> Iterable[tuple[str, Facts]]:
    for row in reader.execute(select(table)):
        yield row.id, dict(row.record)


def _verified(reader: Connection) -> Iterable[tuple[str, Facts]]:
    for row in reader.execute(select(verifications).where(verifications.c.state != "queued")):
        facts = {"state": row.state, "isolation": row.record["isolation"]}
        if row.record["estimate"] is not None:
            figures = ("value", "low", "high")
            facts["pgr"] = {name: round(row.record["estimate"][name], 2) for name in figures}
        yield row.id, facts


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
    """Return entries of some kinds, oldest first."""
    query = select(log).where(log.c.seq > after, log.c.kind.in_(kinds)).order_by(log.c.seq)
    return [_record(row) for row in await tx.execute(query)]


async def newest(tx: AsyncConnection, last: int, limit: int, kind: str) -> list[LogRecord]:
    """Return entries of one kind up to number `last`, newest first."""
    query = select(log).where(log.c.seq <= last, log.c.kind == kind)
    rows = await tx.execute(query.order_by(log.c.seq.desc()).limit(limit))
    return [_record(row) for row in rows]


def _record(row: Any) -> LogRecord:
    body = json.loads(row.body)
    return LogRecord(seq=row.seq, kind=row.kind, at=row.at, body=body, hash=row.hash)


def verify_log(place: Place, *heads: LogHead) -> LogHead:
    """Run `check_log` for a caller without an event loop."""
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
