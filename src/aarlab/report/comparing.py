"""Differences between groups of replicates: Welch's interval and test, and a permutation test.

Replicates are independent runs under the same settings, so groups are compared unpaired, and their
spread need not be equal: Welch's t (1947). A bootstrap over two to five replicates covers far less
than it claims (docs/report.md has the simulation), so it is not used for arms.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.95
NO_VARIATION = 1e-18
MAX_SPLITS = 20_000


class Spread(NamedTuple):
    """Mean of some replicates with its t interval; no interval with one replicate."""

    n: int
    mean: float
    low: float | None
    high: float | None


class Difference(NamedTuple):
    """Mean of `a` minus mean of `b`. Fields are None where the replicates do not determine them.

    `p_permutation` reassigns the replicates to the two groups: in every possible way where that
    is feasible (`exact`), else in `MAX_SPLITS` random ways. `p_floor` is the smallest possible
    value of it. `p_holm` is corrected for all differences of one table.
    """

    a: str
    b: str
    n_a: int
    n_b: int
    value: float | None
    low: float | None = None
    high: float | None = None
    p_welch: float | None = None
    p_permutation: float | None = None
    p_floor: float | None = None
    exact: bool | None = None
    p_holm: float | None = None


def spread(values: Sequence[float], level: float = LEVEL) -> Spread | None:
    """None without a value."""
    if not values:
        return None
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return Spread(n, mean, None, None)
    stderr = float(stats.sem(values))
    if stderr == 0:
        return Spread(n, mean, mean, mean)
    low, high = stats.t.interval(level, n - 1, loc=mean, scale=stderr)
    return Spread(n, mean, float(low), float(high))


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
    permuted = permutation_test(first, second)
    errors = [float(np.var(g, ddof=1)) / len(g) for g in (first, second)]
    if sum(errors) < NO_VARIATION:
        return Difference(*counts, value=value, **permuted._asdict())
    with warnings.catch_warnings():  # of one group without variation, which Welch's test allows
        warnings.simplefilter("ignore", RuntimeWarning)
        welch = stats.ttest_ind(first, second, equal_var=False)
    low, high = welch.confidence_interval(level)
    return Difference(
        *counts, value, float(low), float(high), float(welch.pvalue), **permuted._asdict()
    )


class Permuted(NamedTuple):
    """The result of a permutation test; see `Difference`."""

    p_permutation: float
    p_floor: float
    exact: bool


def permutation_test(first: Sequence[float], second: Sequence[float]) -> Permuted:
    """Test the difference of means, two-sided.

    Enumerates all splits if there are at most `MAX_SPLITS`. Otherwise it draws that many, and the
    observed split counts as one more (Phipson and Smyth 2010). Then p is at least
    1 / (`MAX_SPLITS` + 1).
    """

    def gap(a: Any, b: Any, axis: int) -> Any:
        return np.abs(np.mean(a, axis=axis) - np.mean(b, axis=axis))

    n_splits = math.comb(len(first) + len(second), len(first))
    exact = n_splits <= MAX_SPLITS
    tested = stats.permutation_test(
        (first, second),
        gap,
        n_resamples=MAX_SPLITS,
        alternative="greater",
        vectorized=True,
        rng=np.random.default_rng(0),
    )
    alike = 2 if len(first) == len(second) else 1  # the split with the groups exchanged
    floor = alike / n_splits if exact else 1 / (MAX_SPLITS + 1)
    return Permuted(float(tested.pvalue), floor, exact)


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
