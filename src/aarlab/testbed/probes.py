"""Shortcut probes: does a row's answer depend on which other rows come with it, or on its style?

    twins     some rows in another style, their content kept, in the place and under the id of
              these rows
    alone     batches with at most one row of a problem
    crowded   one row of each problem comes several times, so that its answer is the most frequent
    shuffled  all rows in another order
    renamed   each row under the id of another: an answer that was kept by id stands out
Twins come before all else: neither their ids nor their number, order or company tell them from
rows, and what they stand for has not been seen. The others leave the text of a row as it is.
Covered: predictors that compare the answers of a problem, or count them, or go by style or by id.
Not covered: a predictor that knows the rows from elsewhere, or keeps to itself while it is probed;
one that remembers the rows of an earlier run of its process (its first run then stands out).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aarlab.core.types import Example
from aarlab.testbed.contract import Predictor, checked_predictions
from aarlab.testbed.twins import places_of

Bools = NDArray[np.bool_]
COPIES = 2
PROBES = ("alone", "crowded", "shuffled", "renamed")


def probe_answers(predictor: Predictor, rows: Sequence[Example], seed: int) -> dict[str, Bools]:
    """Answers (N,) for label 1 per probe, in the order of `rows`; alone comes first."""
    rng = np.random.default_rng([seed, len(rows)])
    return {
        "alone": _alone(predictor, rows),
        "crowded": _crowded(predictor, rows, rng),
        "shuffled": _shuffled(predictor, rows, rng),
        "renamed": _renamed(predictor, rows, rng),
    }


def probe_twins(
    predictor: Predictor, rows: Sequence[Example], twins: Sequence[Example]
) -> NDArray[np.float64]:
    """P(label 1) of each twin (T,), asked for in one call with the rows that have none."""
    at_T = places_of(rows, twins)
    mixed = list(rows)
    for at, twin in zip(at_T, twins, strict=True):
        mixed[at] = twin
    return checked_predictions(predictor, mixed)[at_T]


def changed_answers(probed: Mapping[str, Bools], answers_N: Bools) -> dict[str, float]:
    """Share of rows whose answer differs from the scored one, per probe."""
    return {name: float((found_N != answers_N).mean()) for name, found_N in probed.items()}


def _alone(predictor: Predictor, rows: Sequence[Example]) -> Bools:
    answers_N = np.zeros(len(rows), dtype=bool)
    for places in _rounds(rows):
        probs = checked_predictions(predictor, [rows[at] for at in places])
        answers_N[places] = probs > 0.5
    return answers_N


def _rounds(rows: Sequence[Example]) -> list[list[int]]:
    """Places of the rows in batches; the k-th row of a problem is in the k-th batch."""
    seen: defaultdict[str, int] = defaultdict(int)
    rounds: defaultdict[int, list[int]] = defaultdict(list)
    for at, row in enumerate(rows):
        rounds[seen[row.group]].append(at)
        seen[row.group] += 1
    return list(rounds.values())


def _crowded(predictor: Predictor, rows: Sequence[Example], rng: np.random.Generator) -> Bools:
    problems: defaultdict[str, list[Example]] = defaultdict(list)
    for row in rows:
        problems[row.group].append(row)
    copies = []
    for problem in problems.values():
        chosen = problem[int(rng.integers(len(problem)))]
        copies += [
            replace(chosen, id=f"{chosen.id}~{number}") for number in range(COPIES * len(problem))
        ]
    crowd = [*rows, *copies]
    order = rng.permutation(len(crowd))
    probs = np.empty(len(crowd))
    probs[order] = checked_predictions(predictor, [crowd[at] for at in order])
    return np.asarray(probs[: len(rows)] > 0.5)


def _shuffled(predictor: Predictor, rows: Sequence[Example], rng: np.random.Generator) -> Bools:
    order = rng.permutation(len(rows))
    probs = np.empty(len(rows))
    probs[order] = checked_predictions(predictor, [rows[at] for at in order])
    return np.asarray(probs > 0.5)


def _renamed(predictor: Predictor, rows: Sequence[Example], rng: np.random.Generator) -> Bools:
    ids = [rows[at].id for at in rng.permutation(len(rows))]
    named = [replace(row, id=other) for row, other in zip(rows, ids, strict=True)]
    return np.asarray(checked_predictions(predictor, named) > 0.5)
