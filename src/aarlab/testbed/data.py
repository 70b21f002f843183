"""A task in memory. Inputs and targets are kept apart; only an operator's process holds targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aarlab.core.types import ALL_SPLITS, Example, Split, TaskKind


@dataclass(frozen=True, slots=True)
class LabelledSplit:
    """Inputs of one split and their true targets (N,), 0 or 1."""

    examples: tuple[Example, ...]
    targets_N: NDArray[np.int8]

    def at(self, rows: Sequence[int]) -> "LabelledSplit":
        """Return the rows at these places, in this order."""
        return LabelledSplit(tuple(self.examples[row] for row in rows), self.targets_N[list(rows)])


@dataclass(frozen=True, slots=True)
class Twins:
    """Selection rows written in another style, their content and truth kept: a twin has the id,
    group and prompt of its row and other answers. `how` says what was changed, or why there are
    none."""

    how: str
    rows: tuple[Example, ...] = ()


NO_TWINS = Twins("the source of these rows knows no second style")


@dataclass(frozen=True, slots=True)
class TaskData:
    """A task before it is built: every split of `NEEDED_SPLITS`, and `train_hidden` if it has one.

    Verified runs train on the rows of `train_hidden`, which no AAR sees.

    `columns` holds, by row id, the source's other columns besides texts and label. They are for
    the operator only, because a column may reveal the label.
    """

    name: str
    kind: TaskKind
    title: str
    description: str
    settings: dict[str, Any]
    splits: dict[Split, LabelledSplit]
    twins: Twins = NO_TWINS
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[Split, ...]:
        """The splits that the task has, in the order of `ALL_SPLITS`."""
        return tuple(split for split in ALL_SPLITS if split in self.splits)

    @property
    def train_splits(self) -> tuple[Split, ...]:
        """The splits on which methods train; verified runs train on the last."""
        return ("train", "train_hidden") if "train_hidden" in self.splits else ("train",)
