"""From drafts to a task: fills the splits with whole groups and keeps near-duplicates apart."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np

from aarlab.core.errors import BadInput
from aarlab.core.types import ALL_SPLITS, Example, Split
from aarlab.testbed.data import LabelledSplit

MAX_MISSES = 2000


@dataclass(frozen=True, slots=True)
class SplitRows:
    """Rows wanted in each split."""

    teacher: int = 600
    train: int = 1200
    search: int = 600
    selection: int = 600
    certify: int = 600

    def __post_init__(self) -> None:
        if min(self.of(split) for split in ALL_SPLITS) < 2:
            raise BadInput("every split needs at least 2 rows")

    def of(self, split: Split) -> int:
        rows: int = getattr(self, split)
        return rows


class DraftRow(NamedTuple):
    """A row before it has an id; `target` as in Example."""

    prompt: str
    answers: tuple[str, ...]
    target: int


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


def assemble(plan: Plan, draw: DrawGroup) -> dict[Split, LabelledSplit]:
    """Draw groups until every split is full; targets are balanced to one row within each split.

    Raises BadInput when fresh problems run out (MAX_MISSES near-duplicates in a row).
    """
    seen: set[str] = set()
    return {split: _fill(plan, split, draw, seen) for split in ALL_SPLITS}


def _fill(plan: Plan, split: Split, draw: DrawGroup, seen: set[str]) -> LabelledSplit:
    rng = random.Random(f"{plan.name}:{plan.seed}:{split}")
    targets = _balanced(plan.rows.of(split), rng)
    examples, found = [], []
    for number, start in enumerate(range(0, len(targets), plan.per_group)):
        group = _fresh(rng, targets[start : start + plan.per_group], draw, seen)
        for row in group.rows:
            examples.append((f"{plan.name}-{split}-g{number:05d}", row))
            found.append(row.target)
    order = list(range(len(examples)))
    rng.shuffle(order)
    made = (
        Example(f"{plan.name}-{split}-{i:05d}", examples[at][0], *examples[at][1][:2])
        for i, at in enumerate(order)
    )
    return LabelledSplit(tuple(made), np.array([found[at] for at in order], dtype=np.int8))


def _balanced(n_rows: int, rng: random.Random) -> list[int]:
    targets = [i % 2 for i in range(n_rows)]
    rng.shuffle(targets)
    return targets


def _fresh(rng: random.Random, targets: list[int], draw: DrawGroup, seen: set[str]) -> DraftGroup:
    """A group none of whose signatures has been seen in this task."""
    for _ in range(MAX_MISSES):
        group = draw(rng, targets)
        if seen.isdisjoint(group.signatures):
            seen.update(group.signatures)
            return group
    raise BadInput(
        f"the generator found no fresh problem in {MAX_MISSES} tries after {len(seen)} "
        "signatures: ask for fewer rows"
    )


def without_one(words: Iterator[str] | list[str]) -> tuple[str, ...]:
    """Signatures of a text's words; two texts that differ in one word or in order share one."""
    bag = sorted(words)
    left_out = (bag[:i] + bag[i + 1 :] for i in range(len(bag)))
    return tuple(dict.fromkeys(" ".join(part) for part in chain([bag], left_out)))
