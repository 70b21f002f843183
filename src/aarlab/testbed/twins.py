"""Twins at build: which rows get one, and what honest readers make of them.

Whoever reads content gives a row and its twin one answer; whoever goes by style changes it. Honest
readers change some too, and how many is measured on every task: weak teachers, ceilings and the
zero-shot score answer both.
Legend: S seeds, N rows of the selection split, T twins.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from aarlab.core.errors import BadInput
from aarlab.core.types import Example
from aarlab.testbed.baselines import Baseline
from aarlab.testbed.data import TaskData, Twins
from aarlab.testbed.features import AnswerLogp
from aarlab.testbed.stages.zero_shot import ZeroShot

LogpOf = Callable[[Sequence[Example]], AnswerLogp]


class Shift(NamedTuple):
    """Share of rows whose answer is another in the other style, and the mean |change of P|."""

    flipped: float
    moved: float


class TwinReference(BaseModel):
    """`twins/reference.json` of a task's vault: means over seeds, no label and no row. Of the kinds
    of zero-shot score, the one that changed most."""

    model_config = ConfigDict(extra="ignore", frozen=True)  # a vault file holds a canary besides
    how: str
    rows: int = Field(ge=1)
    readers: dict[str, float]  # share of answers that each changed


def draw_twins(data: TaskData, most: int, seed: int) -> TaskData:
    """The task with twins of at most `most` rows, drawn without a look at labels or texts.

    Raises BadInput where a twin is not one of a selection row.
    """
    _check(data)
    rows = sorted(data.twins.rows, key=lambda twin: twin.id)
    drawn = random.Random(f"twins:{data.name}:{seed}").sample(rows, min(most, len(rows)))
    kept = tuple(sorted(drawn, key=lambda twin: twin.id))
    return replace(data, twins=Twins(data.twins.how, kept))


def _check(data: TaskData) -> None:
    known = {row.id: row for row in data.splits["selection"].examples}
    for twin in data.twins.rows:
        row = known.get(twin.id)
        alike = row is not None and replace(twin, answers=row.answers) == row
        if row is None or not alike or len(twin.answers) != len(row.answers):
            raise BadInput(
                f"task {data.name}: twin {twin.id!r} is of no selection row with its group, prompt "
                "and number of answers"
            )


def places_of(rows: Sequence[Example], twins: Sequence[Example]) -> NDArray[np.intp]:
    """Where the row of each twin stands, (T,)."""
    place = {row.id: at for at, row in enumerate(rows)}
    return np.array([place[twin.id] for twin in twins], dtype=np.intp)


def shift(probs_T: NDArray[np.floating], twin_probs_T: NDArray[np.floating]) -> Shift:
    """What the other style changes; also of (S, T)."""
    flipped = (probs_T > 0.5) != (twin_probs_T > 0.5)
    return Shift(float(flipped.mean()), float(np.abs(probs_T - twin_probs_T).mean()))


def reference(
    data: TaskData, baselines: tuple[Baseline, Baseline], logp: LogpOf, prior: float
) -> TwinReference:
    """Of a task with twins: `baselines` are predictions of its selection rows and of its twins,
    `prior` is the mean weak label."""
    (weak_SN, ceiling_SN), (weak_ST, ceiling_ST) = baselines
    at_T = places_of(data.splits["selection"].examples, data.twins.rows)
    readers = {
        "weak teachers": shift(weak_SN[:, at_T], weak_ST).flipped,
        "ceilings": shift(ceiling_SN[:, at_T], ceiling_ST).flipped,
        "zero-shot": _zero_shot_flipped(data, at_T, logp, prior),
    }
    return TwinReference(how=data.twins.how, rows=len(data.twins.rows), readers=readers)


def _zero_shot_flipped(data: TaskData, at_T: NDArray[np.intp], logp: LogpOf, prior: float) -> float:
    score = ZeroShot(logp(data.splits["train"].examples), prior)
    rows_NK = score.all_margins(logp(data.splits["selection"].examples))
    twins_TK = score.all_margins(logp(data.twins.rows))
    return float(((rows_NK[at_T] > 0) != (twins_TK > 0)).mean(axis=0).max())
