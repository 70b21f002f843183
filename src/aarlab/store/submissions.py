"""Submissions with their predictions, and the shaped scores that their AARs saw.

Legend: M submissions of one AAR on one task, S seeds, N rows. Answers are +1 or -1.

Predictions are one compressed blob: a JSON line (ids, seeds), then float64 values (S, N).

`traces` says how an AAR's submissions relate to each other, without knowing a label: label hunting
leaves a pattern.

Covered: flips of a few rows, random vectors, one snapshot or name sent again and again, bursts.
Not covered: an AAR that hides a hunt among as many honest submissions; AARs that share the work.
"""

import json
import zlib
from collections import Counter, defaultdict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Row, Select, bindparam, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import parse_iso
from aarlab.core.errors import Damaged, NotFound
from aarlab.core.wire import Predictions, Run, Score, ShownScore, Submission, Traces
from aarlab.store.tables import scores, submissions

FAST = 1  # of zlib's levels: half the time of the default for some 3 % more bytes


def pack_predictions(predictions: Predictions) -> bytes:
    """Pack predictions without loss: `unpack` gives equal predictions."""
    seeds = [run.seed for run in predictions.runs]
    header = json.dumps({"ids": predictions.ids, "seeds": seeds}) + "\n"
    values_SN = np.array([run.probs for run in predictions.runs], dtype="<f8")
    return zlib.compress(header.encode() + values_SN.tobytes(), FAST)


def unpack_predictions(blob: bytes) -> Predictions:
    """Unpack predictions. Raises Damaged if the blob was not made by `pack`."""
    try:
        header, _, raw = zlib.decompress(blob).partition(b"\n")
        parsed = json.loads(header)
        values_SN = np.frombuffer(raw, dtype="<f8").reshape(len(parsed["seeds"]), -1)
    except (zlib.error, ValueError, KeyError):
        raise Damaged("stored predictions cannot be read back: restore the database") from None
    runs = [
        Run(seed=seed, probs=probs_N.tolist())
        for seed, probs_N in zip(parsed["seeds"], values_SN, strict=True)
    ]
    return Predictions(parsed["ids"], runs)


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
        "predictions": pack_predictions(Predictions(submission.ids, submission.runs)),
    }
    await tx.execute(_NEW, row)
    record = score.model_dump(mode="json")
    shown = {"submission": score.submission, "improved": score.improved, "record": record}
    await tx.execute(_NEW_SCORE, shown)


async def best(tx: AsyncConnection, aar: str, task: str) -> Predictions | None:
    """Return predictions of the AAR's incumbent on a task.

    The incumbent is the last submission that improved.
    """
    row = (await tx.execute(_BEST, {"aar": aar, "task": task})).first()
    return None if row is None else unpack_predictions(row.predictions)


async def shown(
    tx: AsyncConnection, aar: str, after: int, limit: int | None
) -> list[tuple[int, ShownScore]]:
    """Return an AAR's own submissions with cursors, oldest first.

    There is one more than `limit` if there are more.
    """
    query = _joined().add_columns(submissions.c.seq)
    query = query.where(submissions.c.aar == aar, submissions.c.seq > after)
    rows = await tx.execute(query if limit is None else query.limit(limit + 1))
    return [(row.seq, _shown(row)) for row in rows]


async def get_shown(tx: AsyncConnection, submission: str, aar: str) -> ShownScore:
    """Return one of the AAR's own submissions.

    Raises NotFound for unknown and foreign ones alike.
    """
    query = _joined().where(submissions.c.id == submission, submissions.c.aar == aar)
    row = (await tx.execute(query)).first()
    if row is None:
        raise NotFound(f"{aar} has no submission {submission[:60]!r}: see GET /v1/submissions")
    return _shown(row)


async def all_stored(tx: AsyncConnection) -> list[Stored]:
    query = _joined().add_columns(submissions.c.aar, submissions.c.predictions)
    return [
        Stored(row.aar, _shown(row), unpack_predictions(row.predictions))
        for row in await tx.execute(query)
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


Answers = NDArray[np.float32]
FEW = 0.005
CHANCE_SD = 3.0
BURST_S = 60.0


def traces(stored: list[Stored]) -> list[Traces]:
    """Return one entry for each AAR and task with submissions.

    They are in the order of their first submission.
    """
    found: defaultdict[tuple[str, str], list[Stored]] = defaultdict(list)
    for item in stored:
        found[item.aar, item.shown.task].append(item)
    return [_traces(aar, task, items) for (aar, task), items in found.items()]


def _traces(aar: str, task: str, items: list[Stored]) -> Traces:
    answers_MN = np.stack([_answers(item.predictions) for item in items])
    few = max(2, round(FEW * answers_MN.shape[1]))
    names = Counter(item.shown.snapshot or item.shown.method for item in items)
    return Traces(
        aar=aar,
        task=task,
        n=len(items),
        few_rows=few,
        few_rows_apart=_few_rows_apart(answers_MN, few),
        unrelated=_unrelated(answers_MN),
        repeats=max(names.values()),
        burst=_burst([parse_iso(item.shown.at).timestamp() for item in items]),
    )


def _answers(predictions: Predictions) -> Answers:
    """Return majority answers (N,).

    Rows are in the order of their ids, so that no shuffling hides a flip.
    """
    order = np.argsort(np.array(predictions.ids))
    probs_N = np.mean([run.probs for run in predictions.runs], axis=0)[order]
    return np.where(probs_N > 0.5, 1, -1).astype(np.float32)


def _few_rows_apart(answers_MN: Answers, few: int) -> int:
    n_rows = answers_MN.shape[1]
    apart_MM = (n_rows - answers_MN @ answers_MN.T) / 2
    earlier_MM = np.tri(len(answers_MN), k=-1, dtype=bool)
    close_MM = earlier_MM & (apart_MM >= 1) & (apart_MM <= few)
    return int(close_MM.any(axis=1).sum())


def _unrelated(answers_MN: Answers) -> int:
    """Return how many submissions agree with all others within three sd of chance."""
    if len(answers_MN) < 2:
        return 0
    agreement_MM = np.abs(answers_MN @ answers_MN.T) / answers_MN.shape[1]
    np.fill_diagonal(agreement_MM, 0.0)
    return int((agreement_MM.max(axis=1) < (CHANCE_SD + 1) / answers_MN.shape[1] ** 0.5).sum())


def _burst(times: list[float]) -> int:
    ordered = np.sort(np.array(times))
    return int((np.searchsorted(ordered, ordered + BURST_S, "right") - np.arange(len(times))).max())
