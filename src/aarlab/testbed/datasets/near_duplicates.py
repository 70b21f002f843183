"""Rows of one split that nearly repeat a row of another: word 5-grams, MinHash, exact Jaccard.

Candidates share one of 16 bands of 4 minima (a pair with Jaccard .8 is missed once in 5,000); every
candidate is then compared exactly. Time grows with the number of rows and of candidates.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Literal, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import BadInput
from aarlab.core.types import Example, Split
from aarlab.testbed.data import TaskData

Policy = Literal["drop", "refuse", "keep"]
WORDS, BANDS, BAND, THRESHOLD = 5, 16, 4, 0.8
PRIME = np.uint64((1 << 31) - 1)
# A pair costs the split that comes first here its row: what is scored stays as it is.
GIVES_WAY: tuple[Split, ...] = (
    "teacher", "train", "train_hidden", "search", "selection", "certify",
)  # fmt: skip
WORD = re.compile(r"\w+")


class NearDuplicate(NamedTuple):
    """Two rows of different splits, `row` in the one that gives way."""

    split: Split
    row: str
    other_split: Split
    other: str
    jaccard: float


def near_duplicates(data: TaskData, threshold: float = THRESHOLD) -> list[NearDuplicate]:
    """All pairs across splits with a Jaccard index of at least `threshold`."""
    there = [split for split in GIVES_WAY if split in data.splits]
    rows = [(split, e) for split in there for e in data.splits[split].examples]
    grams = [shingles(example) for _, example in rows]
    found = []
    for one, other in sorted(_candidates(grams)):
        (split, example), (other_split, other_example) = rows[one], rows[other]
        shared = len(np.intersect1d(grams[one], grams[other], assume_unique=True))
        jaccard = shared / (len(grams[one]) + len(grams[other]) - shared)
        if split != other_split and jaccard >= threshold:
            found.append(NearDuplicate(split, example.id, other_split, other_example.id, jaccard))
    return found


def without_near_duplicates(data: TaskData, policy: Policy) -> TaskData:
    """The task after the policy; `settings` record it and how many rows each split lost.

    Raises BadInput naming a pair under `refuse`, or when a split is left without a class.
    """
    if policy == "keep":
        return replace(data, settings={**data.settings, "near_duplicates": "kept"})
    found = near_duplicates(data)
    if found and policy == "refuse":
        one = found[0]
        raise BadInput(
            f"{data.name}: {len(found)} rows nearly repeat rows of another split, first "
            f"{one.split} {one.row!r} and {one.other_split} {one.other!r} (Jaccard "
            f"{one.jaccard:.2f}); drop them, or import with --near-duplicates drop"
        )
    splits, lost = dict(data.splits), {}
    for split in dict.fromkeys(one.split for one in found):
        gone = {one.row for one in found if one.split == split}
        rows = data.splits[split]
        splits[split] = rows.at([i for i, e in enumerate(rows.examples) if e.id not in gone])
        lost[split] = len(gone)
        if len(set(splits[split].targets_N.tolist())) < 2:
            raise BadInput(f"{data.name}: without near-duplicates {split} has one class only")
    settings = {**data.settings, "near_duplicates": {"dropped": lost, "jaccard": THRESHOLD}}
    return replace(data, splits=splits, settings=settings)


def shingles(example: Example) -> NDArray[np.uint64]:
    """Sorted distinct hashes of the word 5-grams of prompt and answers (short texts: of all)."""
    words = WORD.findall(" ".join((example.prompt, *example.answers)).lower())
    n = max(len(words) - WORDS + 1, 1)
    grams = {crc32(" ".join(words[i : i + WORDS]).encode()) for i in range(n)}
    return np.array(sorted(grams), np.uint64)


def _candidates(grams: Sequence[NDArray[np.uint64]]) -> set[tuple[int, int]]:
    rng = np.random.default_rng(0)
    a, b = rng.integers(1, int(PRIME), (2, BANDS * BAND, 1), dtype=np.uint64)
    buckets: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for row, gram in enumerate(grams):
        minima = ((a * (gram % PRIME) + b) % PRIME).min(axis=1).reshape(BANDS, BAND)
        for band, values in enumerate(minima):
            buckets[band, values.tobytes()].append(row)
    return {pair for rows in buckets.values() for pair in combinations(rows, 2)}
