"""Find rows that nearly repeat each other, across splits and within a set of texts.

Across splits (`near_duplicates`): word 5-grams, MinHash, exact Jaccard. Candidates share one of 16
bands of 4 minima, which misses a pair with Jaccard .8 once in 5,000. Every candidate is then
compared exactly. Time grows with the number of rows and of candidates. A prompt that most rows
share is an instruction and does not count: rows are compared by their answers.

Within a set (`clusters`): groups of texts, so that no two of a group get into two files. It is
exact, by prefix filtering (Bayardo, Ma and Srikant 2007, "Scaling up all pairs similarity search").
Two sets with a Jaccard index of t or more share one of each set's rarest (1 - t) n + 1 members, so
only texts that share one of these are compared.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Literal, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import BadInput
from aarlab.core.types import Example, Split
from aarlab.testbed.tasks.data import TaskData, linked, normalised, shared_instruction

Policy = Literal["drop", "refuse", "keep"]
WORDS, BANDS, BAND, THRESHOLD = 5, 16, 4, 0.8
PRIME = np.uint64((1 << 31) - 1)
# A pair costs the split that comes first here its row: what is scored stays as it is.
GIVES_WAY: tuple[Split, ...] = (
    "teacher",
    "train",
    "train_hidden",
    "search",
    "selection",
    "certify",
)
WORD = re.compile(r"\w+")


class NearDuplicate(NamedTuple):
    """Two rows of different splits, `row` in the one that gives way."""

    split: Split
    row: str
    other_split: Split
    other: str
    jaccard: float


def near_duplicates(data: TaskData, threshold: float = THRESHOLD) -> list[NearDuplicate]:
    """Return all pairs across splits with a Jaccard index of at least `threshold`."""
    there = [split for split in GIVES_WAY if split in data.splits]
    rows = [(split, e) for split in there for e in data.splits[split].examples]
    instruction = shared_instruction([example.prompt for _, example in rows])
    grams = [shingles(example, instruction) for _, example in rows]
    found = []
    for one, other in sorted(_candidates(grams)):
        (split, example), (other_split, other_example) = rows[one], rows[other]
        shared = len(np.intersect1d(grams[one], grams[other], assume_unique=True))
        jaccard = shared / (len(grams[one]) + len(grams[other]) - shared)
        if split != other_split and jaccard >= threshold:
            found.append(NearDuplicate(split, example.id, other_split, other_example.id, jaccard))
    return found


def without_near_duplicates(data: TaskData, policy: Policy) -> TaskData:
    """Return the task after the policy; `settings` record it and how many rows each split lost.

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


def shingles(example: Example, instruction: str | None = None) -> NDArray[np.uint64]:
    """Return the sorted distinct hashes of the word 5-grams of prompt and answers.

    Short texts are hashed whole. A prompt that is, normalised, the `instruction` is left out.
    """
    own = () if normalised(example.prompt) == instruction else (example.prompt,)
    words = WORD.findall(" ".join((*own, *example.answers)).lower())
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


GRAM = 3  # words
FUNCTION_WORDS = frozenset(
    WORD.findall("""
        a about after all also always am an and any are as at be because been before being
        but by can cannot could d did do does doing don done down each even ever every few
        for from had has have having he her here hers him his how i if in into is isn it its
        itself just ll m may me might more most much must my myself never no nor not now of
        off on once only or other our ours out over own re s shall she should so some such t
        than that the their theirs them then there these they this those through to too
        under until up us ve very was we were what when where which while who whom why will
        with would you your yours
    """)
)


def clusters(
    texts_N: Sequence[str], shared_percent: int, *, content_words: bool = False
) -> list[int]:
    """Return for each text the first text of its cluster.

    Texts are linked, directly or through others, that are equal once normalised or whose word
    trigrams have a Jaccard index of `shared_percent` / 100 or more. With `content_words`, texts
    with the same set of content words are linked too.
    """
    words_N = [WORD.findall(normalised(text)) for text in texts_N]
    keys_N: list[list[Hashable]] = [[("text", normalised(text))] for text in texts_N]
    for one, other in _near([_grams(words) for words in words_N], shared_percent):
        for row in (one, other):
            keys_N[row].append(("near", one, other))
    if content_words:
        for keys, words in zip(keys_N, words_N, strict=True):
            if content := frozenset(words) - FUNCTION_WORDS:
                keys.append(("content", content))
    return linked(keys_N)


def _grams(words: Sequence[str]) -> frozenset[str]:
    """Return the word trigrams; of a shorter text, all its words as one."""
    return frozenset(" ".join(words[at : at + GRAM]) for at in range(max(len(words) - GRAM + 1, 1)))


def _near(grams_N: Sequence[frozenset[str]], percent: int) -> Iterator[tuple[int, int]]:
    """Yield the pairs of rows, the earlier one second, that reach the Jaccard index."""
    frequency = Counter(gram for grams in grams_N for gram in grams)
    rows_with = defaultdict[str, list[int]](list)
    for row, grams in enumerate(grams_N):
        n_rare = len(grams) - -(-percent * len(grams) // 100) + 1
        rarest = sorted(grams, key=lambda gram: (frequency[gram], gram))[:n_rare]
        for other in sorted({other for gram in rarest for other in rows_with[gram]}):
            n_shared = len(grams & grams_N[other])
            if 100 * n_shared >= percent * (len(grams) + len(grams_N[other]) - n_shared):
                yield row, other
        for gram in rarest:
            rows_with[gram].append(row)
