"""Fill the splits of a generated task with whole groups, and keep near-duplicates apart."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np

from aarlab.core.errors import BadInput
from aarlab.core.types import ALL_SPLITS, NEEDED_SPLITS, Example, Split
from aarlab.testbed.tasks.data import HIDDEN_LEAST, LabelledSplit, Twins, enough_hidden

MAX_MISSES, MAX_TWINS = 2000, 100
OTHER_WRITER = "written by the task's other writer"


@dataclass(frozen=True, slots=True)
class SplitRows:
    """Rows wanted in each split.

    `train_hidden` defaults to the size of train. It is left out where that would be too few rows.
    With 0 there are no hidden rows. `teacher` may be 0 in tasks of a problem without weak labels.
    """

    teacher: int = 600
    train: int = 1200
    search: int = 600
    selection: int = 600
    certify: int = 600
    train_hidden: int | None = None

    def __post_init__(self) -> None:
        wanted = [split for split in NEEDED_SPLITS if split != "teacher" or self.teacher]
        if min(map(self.of, wanted)) < 2:
            raise BadInput("every split needs at least 2 rows")
        if self.train_hidden and not enough_hidden(self.train_hidden, self.train):
            raise BadInput(
                f"{self.train_hidden} hidden train rows: at least {HIDDEN_LEAST} are needed, and "
                f"half as many as the {self.train} train rows; 0 for none"
            )

    def of(self, split: Split) -> int:
        if split == "train_hidden" and self.train_hidden is None:
            return self.train if enough_hidden(self.train, self.train) else 0
        rows: int = getattr(self, split)
        return rows


class DraftRow(NamedTuple):
    """A row before it has an id; `target` is as in Example.

    `twin` are the same answers as the other writer would put them.
    """

    prompt: str
    answers: tuple[str, ...]
    target: int
    twin: tuple[str, ...]


class DraftGroup(NamedTuple):
    """All rows of one problem. Two groups that share a signature are near-duplicates."""

    signatures: tuple[str, ...]
    rows: tuple[DraftRow, ...]


DrawGroup = Callable[[random.Random, list[int]], DraftGroup]
"""Draws one problem with one row for each given target."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What assembly needs to know of a generator's settings."""

    name: str
    rows: SplitRows
    per_group: int
    seed: int


class Assembled(NamedTuple):
    splits: dict[Split, LabelledSplit]
    twins: Twins


class _Filled(NamedTuple):
    rows: LabelledSplit
    twins: tuple[Example, ...]


def assemble(plan: Plan, draw: DrawGroup) -> Assembled:
    """Draw groups until every split is full; targets are balanced to one row within each split.

    Raises BadInput when fresh problems run out (MAX_MISSES near-duplicates in a row). In
    `train_hidden`, which comes last, there are then as many rows as there are problems, or none
    where that is too few.
    """
    seen: set[str] = set()
    wanted = [split for split in ALL_SPLITS if plan.rows.of(split)]
    filled = {split: _fill(plan, split, draw, seen) for split in wanted}
    if "train_hidden" in filled:
        n_hidden = len(filled["train_hidden"].rows.examples)
        if not enough_hidden(n_hidden, plan.rows.train):
            del filled["train_hidden"]
    splits = {split: found.rows for split, found in filled.items()}
    return Assembled(splits, Twins(OTHER_WRITER, filled["selection"].twins))


def _fill(plan: Plan, split: Split, draw: DrawGroup, seen: set[str]) -> _Filled:
    rng = random.Random(f"{plan.name}:{plan.seed}:{split}")
    targets = [number % 2 for number in range(plan.rows.of(split))]
    rng.shuffle(targets)
    drafts: list[tuple[str, DraftRow]] = []
    for number, start in enumerate(range(0, len(targets), plan.per_group)):
        try:
            group = _fresh(rng, targets[start : start + plan.per_group], draw, seen)
        except BadInput:
            if split in NEEDED_SPLITS:
                raise
            break
        drafts += [(f"{plan.name}-{split}-g{number:05d}", row) for row in group.rows]
    rng.shuffle(drafts)
    ids = [f"{plan.name}-{split}-{i:05d}" for i in range(len(drafts))]
    pairs = list(zip(ids, drafts, strict=True))
    rows = tuple(Example(i, group, row.prompt, row.answers) for i, (group, row) in pairs)
    twins = tuple(Example(i, group, row.prompt, row.twin) for i, (group, row) in pairs)
    targets_N = np.array([row.target for _, row in drafts], dtype=np.int8)
    return _Filled(LabelledSplit(rows, targets_N), twins)


def _fresh(rng: random.Random, targets: list[int], draw: DrawGroup, seen: set[str]) -> DraftGroup:
    """Return a group whose signatures have not been seen in this task."""
    for _ in range(MAX_MISSES):
        group = draw(rng, targets)
        if seen.isdisjoint(group.signatures):
            seen.update(group.signatures)
            return group
    raise BadInput(
        f"the generator found no fresh problem in {MAX_MISSES} tries after {len(seen)} "
        "signatures: ask for fewer rows"
    )


def write_twin(text: str, taken: set[str], write: Callable[[random.Random], str]) -> str:
    """Return what `write` makes of a row in the other style; the same text gives the same twin.

    The twin is not one of `taken` if there is another.
    """
    rng = random.Random(text)
    for _ in range(MAX_TWINS):
        twin = write(rng)
        if twin not in taken:
            break
    return twin


def without_one(words: Iterator[str] | list[str]) -> tuple[str, ...]:
    """Return signatures of a text's words.

    Two texts that differ in one word or in word order share a signature.
    """
    bag = sorted(words)
    left_out = (bag[:i] + bag[i + 1 :] for i in range(len(bag)))
    return tuple(dict.fromkeys(" ".join(part) for part in chain([bag], left_out)))
