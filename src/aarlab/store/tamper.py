"""What the tables hold against what the log says was written: neither more, less nor other."""

import json
import sqlite3
from collections.abc import Iterable
from typing import Any

from aarlab.core.canonical import content_hash
from aarlab.core.chain import LogEntry
from aarlab.core.errors import Damaged
from aarlab.core.wire import Submission
from aarlab.store.predictions import unpack

Facts = dict[str, Any]
LOGGED = {"submission": "id", "score": "submission", "verified": "id"}


def check_tables(reader: sqlite3.Connection, entries: Iterable[LogEntry]) -> None:
    """Raise Damaged naming a submission, score or verification that differs from its entry."""
    logged: dict[str, dict[str, Facts]] = {kind: {} for kind in LOGGED}
    for entry in entries:
        if entry.kind in LOGGED:
            logged[entry.kind][str(entry.body[LOGGED[entry.kind]])] = entry.body
    _compare("submission", logged["submission"], _submissions(reader))
    _compare("score", logged["score"], _scores(reader))
    _compare("verified", logged["verified"], _verified(reader))


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


def _submissions(reader: sqlite3.Connection) -> Iterable[tuple[str, Facts]]:
    query = "SELECT id, aar, task, method, snapshot, predictions FROM submissions"
    for name, aar, task, method, snapshot, blob in reader.execute(query):
        ids, runs = unpack(blob)
        sent = Submission(task=task, method=method, snapshot=snapshot, ids=ids, runs=runs)
        yield (
            name,
            {
                "aar": aar,
                "task": task,
                "method": method,
                "snapshot": snapshot,
                "predictions_sha256": content_hash(sent.model_dump(mode="json")),
            },
        )


def _scores(reader: sqlite3.Connection) -> Iterable[tuple[str, Facts]]:
    for name, improved, record in reader.execute("SELECT submission, improved, record FROM scores"):
        yield name, {**json.loads(record), "improved": bool(improved)}


def _verified(reader: sqlite3.Connection) -> Iterable[tuple[str, Facts]]:
    query = "SELECT id, state, record FROM verifications WHERE state != 'queued'"
    for name, state, record in reader.execute(query):
        known = json.loads(record)
        facts = {"state": state, "isolation": known["isolation"]}
        if known["estimate"] is not None:
            figures = ("value", "low", "high")
            facts["pgr"] = {name: round(known["estimate"][name], 2) for name in figures}
        yield name, facts
