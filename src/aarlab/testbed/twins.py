"""Twins: selection rows in another style. Which rows get one, and what a changed style changes.

Whoever reads content gives a row and its twin one answer; whoever goes by style changes it. Honest
readers change some too: how many is measured on every task (see `readers`).
Legend: S seeds, N rows of the selection split, T twins.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from aarlab.core.errors import BadInput
from aarlab.core.types import Example
from aarlab.testbed.data import TaskData, Twins


class Shift(NamedTuple):
    """Share of rows whose answer is another in the other style, and the mean |change of P|."""

    flipped: float
    moved: float


class TwinReference(BaseModel):
    """`twins/reference.json` of a task's vault: means over seeds, no label and no row."""

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
