"""Queries that a long-lived reader repeats: rows added since a cursor, sums, a few by name.

The tables only grow, so such a reader only has to remember `after` (a row's number). Predictions
and rows of a task are read only by `predictions_of` and `rerun_predictions`.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Table, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.wire import (
    Audit,
    CaseVerdict,
    NewAar,
    Predictions,
    Snapshot,
    Verdict,
    Verification,
    Wire,
)
from aarlab.store import aars
from aarlab.store.submissions import unpack_predictions
from aarlab.store.tables import aars as aar_table
from aarlab.store.tables import (
    audits,
    case_verdicts,
    findings,
    scores,
    snapshots,
    submissions,
    verdicts,
    verifications,
)

AT_ONCE, MAX_CITED = 500, 20_000
Record = TypeVar("Record", bound=Wire)


class Sent(NamedTuple):
    """A submission without its predictions; `shown` is the PGR that its AAR saw."""

    seq: int
    id: str
    aar: str
    task: str
    method: str
    snapshot: str | None
    at: str
    shown: float
    improved: bool


class Post(NamedTuple):
    """The head of a finding."""

    id: str
    author: str
    kind: str
    title: str
    at: str
    snapshot: str | None


async def sent_after(tx: AsyncConnection, after: int) -> list[Sent]:
    shown = scores.c.record["pgr"].as_float().label("shown")
    columns = (
        *(submissions.c[name] for name in ("seq", "id", "aar", "task", "method", "snapshot", "at")),
        shown,
        scores.c.improved,
    )
    query = select(*columns).join(scores, scores.c.submission == submissions.c.id)
    rows = await tx.execute(query.where(submissions.c.seq > after).order_by(submissions.c.seq))
    return [Sent(*row) for row in rows]


async def snapshots_after(tx: AsyncConnection, after: int) -> list[tuple[int, Snapshot]]:
    return await _records(tx, snapshots, Snapshot, snapshots.c.seq > after)


async def audits_after(tx: AsyncConnection, after: int) -> list[tuple[int, Audit]]:
    return await _records(tx, audits, Audit, audits.c.seq > after)


async def verdicts_after(tx: AsyncConnection, after: int) -> list[tuple[int, Verdict]]:
    return await _records(tx, verdicts, Verdict, verdicts.c.seq > after)


async def case_verdicts_after(tx: AsyncConnection, after: int) -> list[tuple[int, CaseVerdict]]:
    return await _records(tx, case_verdicts, CaseVerdict, case_verdicts.c.seq > after)


async def runs_after(
    tx: AsyncConnection, after: int, waiting: Collection[int]
) -> list[tuple[int, Verification]]:
    """Return re-runs that are new, and those of `waiting` (numbers) as they stand now."""
    found = await _runs(tx, verifications.c.seq > after)
    numbers = sorted(waiting)
    for start in range(0, len(numbers), AT_ONCE):
        found += await _runs(tx, verifications.c.seq.in_(numbers[start : start + AT_ONCE]))
    return found


async def _runs(
    tx: AsyncConnection, condition: ColumnElement[bool]
) -> list[tuple[int, Verification]]:
    return await _records(tx, verifications, Verification, condition)


async def _records(
    tx: AsyncConnection, table: Table, model: type[Record], condition: ColumnElement[bool]
) -> list[tuple[int, Record]]:
    """Return number and record of the rows of a table, in their order."""
    query = select(table.c.seq, table.c.record).where(condition).order_by(table.c.seq)
    return [(row.seq, model.model_validate(row.record)) for row in await tx.execute(query)]


async def runs_numbered(tx: AsyncConnection, numbers: Sequence[int]) -> list[Verification]:
    """Return re-runs with all that was recorded, by their row numbers."""
    return [run for _, run in await _runs(tx, verifications.c.seq.in_(numbers))]


async def audits_numbered(tx: AsyncConnection, numbers: Sequence[int]) -> dict[int, Audit]:
    return dict(await _records(tx, audits, Audit, audits.c.seq.in_(numbers)))


async def registered(tx: AsyncConnection) -> list[NewAar]:
    """Return AARs in the order of their registration."""
    query = select(aar_table.c.record).order_by(aar_table.c.at, aar_table.c.name)
    return [NewAar.model_validate(row.record) for row in await tx.execute(query)]


async def research_s(tx: AsyncConnection) -> dict[str, float]:
    """Return research seconds by AAR."""
    total: dict[str, float] = {}
    for session in await aars.all_sessions(tx):
        total[session.aar] = total.get(session.aar, 0.0) + aars.seconds(session)
    return total


async def cited_after(tx: AsyncConnection, after: int) -> list[tuple[int, str, str, str]]:
    """List (number, author, submission, snapshot) of findings that cite both, oldest first.

    Only findings numbered above `after` are listed.
    """
    record = findings.c.record
    submission, snapshot = record["submission"].as_string(), record["snapshot"].as_string()
    query = select(findings.c.seq, findings.c.author, submission, snapshot).where(
        findings.c.seq > after, submission.is_not(None), snapshot.is_not(None)
    )
    return [tuple(row) for row in await tx.execute(query.order_by(findings.c.seq))]


async def posts_about(tx: AsyncConnection, cited: Sequence[str], limit: int = 50) -> list[Post]:
    """Return findings that cite one of the snapshots, oldest first."""
    where = findings.c.record["snapshot"].as_string().in_(cited)
    return await _posts(tx, where, limit)


async def posts_before(tx: AsyncConnection, author: str, at: str, limit: int) -> list[Post]:
    """Return an author's last findings before a time, oldest first."""
    query = select(findings.c.seq).where(findings.c.author == author, findings.c.at < at)
    last = await tx.scalars(query.order_by(findings.c.seq.desc()).limit(limit))
    return await _posts(tx, findings.c.seq.in_(list(last)), limit)


async def texts_about(
    tx: AsyncConnection, cited: Sequence[str], submissions_of: Mapping[str, str]
) -> dict[str, list[tuple[str, str]]]:
    """Return (author, text) of the findings about each snapshot, oldest first.

    Findings about one of its submissions count too. `submissions_of` maps submissions to their
    snapshots.
    """
    record = findings.c.record
    about = record["snapshot"].as_string().in_(cited)
    sent = record["submission"].as_string().in_(list(submissions_of)[:MAX_CITED])
    query = select(findings.c.author, record).where(or_(about, sent)).order_by(findings.c.seq)
    found: dict[str, list[tuple[str, str]]] = {snapshot: [] for snapshot in cited}
    for author, post in await tx.execute(query):
        snapshot = post["snapshot"] or submissions_of.get(post["submission"] or "", "")
        found.setdefault(snapshot, []).append((author, f"{post['title']} {post['text']}"))
    return found


async def _posts(tx: AsyncConnection, where: ColumnElement[bool], limit: int) -> list[Post]:
    query = select(findings.c.id, findings.c.author, findings.c.at, findings.c.record).where(where)
    return [
        Post(r.id, r.author, r.record["kind"], r.record["title"], r.at, r.record["snapshot"])
        for r in await tx.execute(query.order_by(findings.c.seq).limit(limit))
    ]


async def predictions_of(tx: AsyncConnection, sent: Sequence[str]) -> dict[str, Predictions]:
    """Return predictions of submissions by id, for the scorer."""
    query = select(submissions.c.id, submissions.c.predictions).where(submissions.c.id.in_(sent))
    return {row.id: unpack_predictions(row.predictions) for row in await tx.execute(query)}


async def rerun_predictions(tx: AsyncConnection, run: str) -> Predictions | None:
    """Return predictions of a settled re-run, for the scorer."""
    query = select(verifications.c.predictions).where(verifications.c.id == run)
    row = (await tx.execute(query)).first()
    return None if row is None or row.predictions is None else unpack_predictions(row.predictions)
