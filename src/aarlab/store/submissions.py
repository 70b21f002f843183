"""Submissions with their predictions, and the shaped scores that their AARs saw."""

from typing import NamedTuple

from sqlalchemy import Row, Select, bindparam, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import NotFound
from aarlab.core.wire import Predictions, Score, ShownScore, Submission
from aarlab.store.predictions import pack, unpack
from aarlab.store.tables import scores, submissions

_NEW, _NEW_SCORE = insert(submissions), insert(scores)
_BEST = (
    select(submissions.c.predictions)
    .join(scores, scores.c.submission == submissions.c.id)
    .where(
        submissions.c.aar == bindparam("aar"),
        submissions.c.task == bindparam("task"),
        scores.c.improved,
    )
    .order_by(submissions.c.seq.desc())
    .limit(1)
)


class Stored(NamedTuple):
    """A scored submission as the operator's export needs it."""

    aar: str
    shown: ShownScore
    predictions: Predictions


async def add(tx: AsyncConnection, aar: str, submission: Submission, score: Score, at: str) -> None:
    row = {
        "id": score.submission,
        "aar": aar,
        "task": submission.task,
        "method": submission.method,
        "snapshot": submission.snapshot,
        "at": at,
        "predictions": pack(Predictions(submission.ids, submission.runs)),
    }
    await tx.execute(_NEW, row)
    record = score.model_dump(mode="json")
    shown = {"submission": score.submission, "improved": score.improved, "record": record}
    await tx.execute(_NEW_SCORE, shown)


async def best(tx: AsyncConnection, aar: str, task: str) -> Predictions | None:
    """Predictions of the AAR's incumbent on a task: the last submission that improved."""
    row = (await tx.execute(_BEST, {"aar": aar, "task": task})).first()
    return None if row is None else unpack(row.predictions)


async def shown(
    tx: AsyncConnection, aar: str, after: int, limit: int | None
) -> list[tuple[int, ShownScore]]:
    """An AAR's own submissions with cursors, oldest first; one more than `limit` if there is."""
    query = _joined().add_columns(submissions.c.seq)
    query = query.where(submissions.c.aar == aar, submissions.c.seq > after)
    rows = await tx.execute(query if limit is None else query.limit(limit + 1))
    return [(row.seq, _shown(row)) for row in rows]


async def get_shown(tx: AsyncConnection, submission: str, aar: str) -> ShownScore:
    """One of the AAR's own submissions; raises NotFound for unknown and foreign ones alike."""
    query = _joined().where(submissions.c.id == submission, submissions.c.aar == aar)
    row = (await tx.execute(query)).first()
    if row is None:
        raise NotFound(f"{aar} has no submission {submission[:60]!r}: see GET /v1/submissions")
    return _shown(row)


async def all_stored(tx: AsyncConnection) -> list[Stored]:
    query = _joined().add_columns(submissions.c.aar, submissions.c.predictions)
    return [
        Stored(row.aar, _shown(row), unpack(row.predictions)) for row in await tx.execute(query)
    ]


def _joined() -> Select:  # type: ignore[type-arg]  # the row type is private to this file
    return (
        select(
            submissions.c.id,
            submissions.c.task,
            submissions.c.method,
            submissions.c.snapshot,
            submissions.c.at,
            scores.c.record,
        )
        .join(scores, scores.c.submission == submissions.c.id)
        .order_by(submissions.c.seq)
    )


def _shown(row: Row) -> ShownScore:  # type: ignore[type-arg]
    return ShownScore(
        submission=row.id,
        task=row.task,
        method=row.method,
        snapshot=row.snapshot,
        at=row.at,
        score=Score.model_validate(row.record),
    )
