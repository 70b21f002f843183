"""What the tables hold against what the log says was written: neither more, less nor other."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Table, func, select

from aarlab.core.canonical import content_hash
from aarlab.core.chain import LogEntry
from aarlab.core.errors import Damaged
from aarlab.core.ledger import TOKEN_KINDS
from aarlab.core.wire import Submission
from aarlab.core.wire_ledger import OperatorCall
from aarlab.store.predictions import unpack
from aarlab.store.tables import (
    audits,
    case_verdicts,
    controls,
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
    _compare_sums("model_calls", called, _called(reader))
    _compare_sums("spend_totals", spent + called, _totals(reader))


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


def _totals(reader: Connection) -> Sums:
    return {(row.aar, row.kind): row.amount for row in reader.execute(select(spend_totals))}


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
