"""Types that every floor shares. An Example has no label field: targets travel apart."""

from dataclasses import dataclass
from typing import Literal

TaskKind = Literal["preference", "verification"]
Split = Literal["teacher", "train", "train_hidden", "search", "selection", "certify"]

EVAL_SPLITS: tuple[Split, ...] = ("search", "selection", "certify")
NEEDED_SPLITS: tuple[Split, ...] = ("teacher", "train", *EVAL_SPLITS)  # every task has these
# The order fixes the random draws of each split: a new one goes to the end.
ALL_SPLITS: tuple[Split, ...] = (*NEEDED_SPLITS, "train_hidden")


@dataclass(frozen=True, slots=True)
class Example:
    """One input row.

    Two answers: a preference row, target 1 means the first is better. One answer: a verification
    row, target 1 means the answer is right.
    """

    id: str
    group: str
    prompt: str
    answers: tuple[str, ...]

    @property
    def kind(self) -> TaskKind:
        return "preference" if len(self.answers) == 2 else "verification"
