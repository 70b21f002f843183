"""What the tables hold against what the log says was written: neither more, less nor other."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, select

from aarlab.core.canonical import content_hash
from aarlab.core.chain import LogEntry
from aarlab.core.errors import Damaged
from aarlab.core.wire import Submission
from aarlab.store.predictions import unpack
from aarlab.store.tables import audits, scores, submissions, verdicts, verifications

Facts = dict[str, Any]
LOGGED = {
    "submission": "id",
    "score": "submission",
    "verified": "id",
    "audit": "id",
    "verdict": "id",
}


def check_tables(reader: Connection, entries: Iterable[LogEntry]) -> None:
    """Raise Damaged naming the row of a table in LOGGED that differs from its entry."""
    logged: dict[str, dict[str, Facts]] = {kind: {} for kind in LOGGED}
    for entry in entries:
        if entry.kind in LOGGED:
            logged[entry.kind][str(entry.body[LOGGED[entry.kind]])] = entry.body
    _compare("submission", logged["submission"], _submissions(reader))
    _compare("score", logged["score"], _scores(reader))
    _compare("verified", logged["verified"], _verified(reader))
    _compare("audit", logged["audit"], _audits(reader))
    _compare("verdict", logged["verdict"], _verdicts(reader))


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


def _submissions(reader: Connection) -> Iterable[tuple[str, Facts]]:
    for row in reader.execute(select(submissions)):
        ids, runs = unpack(row.predictions)
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


def _verdicts(reader: Connection) -> Iterable[tuple[str, Facts]]:
    for row in reader.execute(select(verdicts)):
        yield row.id, dict(row.record)


def _verified(reader: Connection) -> Iterable[tuple[str, Facts]]:
    for row in reader.execute(select(verifications).where(verifications.c.state != "queued")):
        facts = {"state": row.state, "isolation": row.record["isolation"]}
        if row.record["estimate"] is not None:
            figures = ("value", "low", "high")
            facts["pgr"] = {name: round(row.record["estimate"][name], 2) for name in figures}
        yield row.id, facts
