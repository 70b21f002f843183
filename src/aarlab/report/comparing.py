"""Differences between groups of replicates: Welch's interval, its test, an exact permutation test.

Replicates are independent runs under the same settings, so groups are compared unpaired, and their
spread need not be equal: Welch's t (1947). A bootstrap over two to five replicates covers far less
than it claims (docs/report.md has the simulation), so it is not used for arms.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

LEVEL = 0.95
MAX_SPLITS = 20_000


class Spread(NamedTuple):
    """Mean of some replicates with its t interval; no interval with one replicate."""

    n: int
    mean: float
    low: float | None
    high: float | None


class Difference(NamedTuple):
    """Mean of `a` minus mean of `b`. None where the replicates cannot say.

    `p_exact` is over all ways to deal the replicates to the two groups; `p_floor` is the smallest
    it can be with this many. `p_holm` holds for all differences of one table together.
    """

    a: str
    b: str
    n_a: int
    n_b: int
    value: float | None
    low: float | None = None
    high: float | None = None
    p_welch: float | None = None
    p_exact: float | None = None
    p_floor: float | None = None
    p_holm: float | None = None


def spread(values: Sequence[float], level: float = LEVEL) -> Spread | None:
    """None without a value."""
    if not values:
        return None
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return Spread(n, mean, None, None)
    half = float(stdtrit(n - 1, 0.5 + level / 2)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return Spread(n, mean, mean - half, mean + half)


def difference(
    a: tuple[str, Sequence[float]], b: tuple[str, Sequence[float]], level: float = LEVEL
) -> Difference:
    """Each group is its name and a value per replicate. An interval needs two replicates in each
    group, and some variation in one of them."""
    (name_a, first), (name_b, second) = a, b
    counts = (name_a, name_b, len(first), len(second))
    if not first or not second:
        return Difference(*counts, value=None)
    value = float(np.mean(first)) - float(np.mean(second))
    if min(len(first), len(second)) < 2:
        return Difference(*counts, value=value)
    p_exact, p_floor = permutation_test(first, second)
    errors = [float(np.var(g, ddof=1)) / len(g) for g in (first, second)]
    if sum(errors) <= 0:
        return Difference(*counts, value=value, p_exact=p_exact, p_floor=p_floor)
    stderr = math.sqrt(sum(errors))
    dof = sum(errors) ** 2 / sum(
        e**2 / (len(g) - 1) for e, g in zip(errors, (first, second), strict=True)
    )
    half = float(stdtrit(dof, 0.5 + level / 2)) * stderr
    p_welch = 2 * float(stdtr(dof, -abs(value) / stderr))
    return Difference(
        *counts, value, value - half, value + half, p_welch, p_exact=p_exact, p_floor=p_floor
    )


def permutation_test(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Two-sided p of the difference of means, and the smallest p that these counts allow.

    All splits are counted where there are at most `MAX_SPLITS`, else that many drawn ones.
    """
    pooled = np.array([*first, *second], dtype=np.float64)
    n, n_first = len(pooled), len(first)
    n_splits = math.comb(n, n_first)
    observed = abs(float(np.mean(first)) - float(np.mean(second))) - 1e-12
    if n_splits <= MAX_SPLITS:
        picks = np.array(list(itertools.combinations(range(n), n_first)))
    else:
        rng = np.random.default_rng(0)
        picks = np.argsort(rng.random((MAX_SPLITS, n)), axis=1)[:, :n_first]
    sums = pooled[picks].sum(axis=1)
    gaps = np.abs(sums / n_first - (pooled.sum() - sums) / (n - n_first))
    floor = (2 if n == 2 * n_first else 1) / n_splits
    return max(float(np.mean(gaps >= observed)), floor), floor


def corrected(differences: Sequence[Difference]) -> list[Difference]:
    """With `p_holm`: Holm's step-down over those that have a p of Welch's test."""
    tested = sorted(
        (d.p_welch, index) for index, d in enumerate(differences) if d.p_welch is not None
    )
    found, largest = list(differences), 0.0
    for rank, (p, index) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        found[index] = found[index]._replace(p_holm=largest)
    return found
