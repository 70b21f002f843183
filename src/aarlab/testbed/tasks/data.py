"""Represent a task in memory, and deal its groups to splits.

Inputs and targets are kept apart. Only an operator's process holds targets.

Groups are dealt whole and class-balanced. The same seed gives the same deal.
"""

import random
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import BadInput
from aarlab.core.problem import WEAK_TO_STRONG, ProblemFacts
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
    """Selection rows written in another style, with the same content and truth.

    A twin has the id, group and prompt of its row, and other answers. `how` says what was changed,
    or why there are no twins.
    """

    how: str
    rows: tuple[Example, ...] = ()


NO_TWINS = Twins("the source of these rows knows no second style")


@dataclass(frozen=True, slots=True)
class TaskData:
    """A task before it is built: every split of `NEEDED_SPLITS`, and `train_hidden` if it has one.

    Verified runs train on the rows of `train_hidden`, which no AAR sees. There need be no split
    `teacher` where the research problem has no weak labels.

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
    problem: ProblemFacts = WEAK_TO_STRONG

    @property
    def names(self) -> tuple[Split, ...]:
        """Return the splits that the task has, in the order of `ALL_SPLITS`."""
        return tuple(split for split in ALL_SPLITS if split in self.splits)

    @property
    def train_splits(self) -> tuple[Split, ...]:
        """Return the splits on which methods train; verified runs train on the last."""
        return ("train", "train_hidden") if "train_hidden" in self.splits else ("train",)


# Hidden train rows, on which verified runs train: fewer would make their scores too noisy.
HIDDEN_LEAST, HIDDEN_SHARE = 60, 0.5  # rows; rows of each public train row
DEAL_FROM = 600  # train rows: smaller sets stay as they are
TRAIN_SHARES: Mapping[Split, float] = {"train": 0.65, "train_hidden": 0.35}


@dataclass(frozen=True, slots=True)
class EvalShares:
    """Shares of a test file that go to search, selection and certify; they need not sum to 1."""

    search: float = 0.4
    selection: float = 0.4
    certify: float = 0.2

    def __post_init__(self) -> None:
        if min(self.search, self.selection, self.certify) <= 0:
            raise BadInput("every share of search, selection and certify must be above 0")

    def by_split(self) -> dict[Split, float]:
        return {"search": self.search, "selection": self.selection, "certify": self.certify}


def normalised(text: str) -> str:
    """Return the text normalised for comparison: NFKC, case folded, single spaces."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def shared_instruction(prompts_N: Sequence[str], share: float = 0.5) -> str | None:
    """Return the normalised prompt that more than `share` of the rows have, or None.

    Such a prompt is an instruction ("Say something about yourself."), not a question. Returns None
    for fewer than three rows.
    """
    if len(prompts_N) < 3:
        return None
    prompt, count = Counter(map(normalised, prompts_N)).most_common(1)[0]
    return prompt if count > share * len(prompts_N) else None


def question_key(prompt: str, answers: Iterable[str], instruction: str | None) -> str:
    """Return a key that is equal for rows that ask the same question.

    It is the normalised prompt. Where that is the instruction that most rows share, the answers in
    any order are added.
    """
    key = normalised(prompt)
    return "\n".join([key, *sorted(map(normalised, answers))]) if key == instruction else key


def linked(keys_N: Sequence[Iterable[Hashable]]) -> list[int]:
    """Return for each row the first row it shares a key with, directly or through other rows."""
    parent = list(range(len(keys_N)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    first: dict[Hashable, int] = {}
    for row, keys in enumerate(keys_N):
        for key in keys:
            one, other = root(first.setdefault(key, row)), root(row)
            parent[max(one, other)] = min(one, other)
    return [root(row) for row in range(len(keys_N))]


def enough_hidden(n_hidden: int, n_train: int) -> bool:
    """Return whether verified runs can train on `n_hidden` rows, given `n_train` public ones."""
    return n_hidden >= max(HIDDEN_LEAST, HIDDEN_SHARE * n_train)


def deal_hidden(rows: LabelledSplit, seed: int) -> dict[Split, LabelledSplit] | None:
    """Deal whole groups of train rows to train and train_hidden.

    Returns None for fewer than `DEAL_FROM` rows, and where groups are so large that no such deal
    leaves enough hidden rows of both classes.
    """
    if len(rows.examples) < DEAL_FROM:
        return None
    groups_N = [example.group for example in rows.examples]
    try:
        dealt = deal_groups(groups_N, rows.targets_N, TRAIN_SHARES, seed)
    except BadInput:
        return None
    if not enough_hidden(len(dealt["train_hidden"]), len(dealt["train"])):
        return None
    return {split: rows.at(places) for split, places in dealt.items()}


def deal_groups(
    groups_N: Sequence[str],
    targets_N: NDArray[np.int8],
    shares: Mapping[Split, float],
    seed: int,
) -> dict[Split, list[int]]:
    """Return the row numbers of each split of `shares`; no group is in two of them.

    Shares need not sum to 1. Large groups are dealt first, each to the split that it leaves closest
    to its share of both classes. The seed breaks ties and orders groups of equal size. Raises
    BadInput when a split stays without one of the classes.
    """
    rows_of: dict[str, list[int]] = {}
    for row, group in enumerate(groups_N):
        rows_of.setdefault(group, []).append(row)
    order = sorted(rows_of)
    random.Random(f"deal:{seed}").shuffle(order)
    order.sort(key=lambda group: -len(rows_of[group]))
    wanted_2 = np.bincount(targets_N, minlength=2).astype(np.float64)
    total = sum(shares.values())
    want = {split: wanted_2 * share / total for split, share in shares.items()}
    have = {split: np.zeros(2) for split in shares}
    dealt: dict[Split, list[int]] = {split: [] for split in shares}
    for group in order:
        adds_2 = np.bincount(targets_N[rows_of[group]], minlength=2)
        best = max(shares, key=lambda split: _gain(want[split], have[split], adds_2))
        have[best] += adds_2
        dealt[best].extend(rows_of[group])
    _refuse_one_class(have)
    return {split: sorted(rows) for split, rows in dealt.items()}


def _gain(
    want_2: NDArray[np.float64], have_2: NDArray[np.float64], adds_2: NDArray[np.int64]
) -> float:
    """Return by how much a group brings a split closer to its share.

    It is the decrease in squared distance, relative to that share.
    """
    before, after = want_2 - have_2, want_2 - have_2 - adds_2
    return float(((before**2 - after**2) / np.maximum(want_2, 1e-9)).sum())


def _refuse_one_class(have: Mapping[Split, NDArray[np.float64]]) -> None:
    for split, counts_2 in have.items():
        if counts_2.min() < 1:
            raise BadInput(
                f"split {split} would hold {int(counts_2.sum())} rows of one class: the test file "
                "has too few groups to deal; add rows with other groups"
            )


def check_disjoint(splits: Mapping[Split, LabelledSplit]) -> None:
    """Raise BadInput if an id occurs twice, or if a group or question is in two splits.

    The message names it and the splits.
    """
    seen: dict[Hashable, Split] = {}
    rows = [(name, e) for name in ALL_SPLITS if name in splits for e in splits[name].examples]
    # A lower share than when rows are read, because near-duplicates have been dropped since.
    instruction = shared_instruction([example.prompt for _, example in rows], share=0.25)
    for split, example in rows:
        if ("id", example.id) in seen:
            raise BadInput(
                f"id {example.id!r} occurs twice, in {seen['id', example.id]} and {split}"
            )
        seen["id", example.id] = split
        question = question_key(example.prompt, example.answers, instruction)
        for what, key in (("group", example.group), ("question", question)):
            other = seen.setdefault((what, key), split)
            if other != split:
                raise BadInput(
                    f"{what} {key[:80]!r} lies in two splits, {other} and {split} (row "
                    f"{example.id!r}): a problem must be in one split only"
                )
