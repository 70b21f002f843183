"""Diversity of ideas: Shannon entropy, in bits, of the families that AARs work in at a step.

    H = - sum over families f of p_f log2 p_f,   p_f = share of the active AARs whose idea is in f

Step k is the k-th idea (snapshot) of each AAR; an AAR is active at k if it has one. Steps with
fewer than 5 active AARs are dropped. The band is a 90 % percentile bootstrap over AARs, as in the
study; it leans low, since a resample can only lose families.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import entropy

from aarlab.core.ideas import FAMILY_KEYS, IdeaFamily

MIN_AARS = 5
LEVEL = 0.90
RESAMPLES = 2_000


class Diversity(NamedTuple):
    """`step` counts from 1; `most` is what `n_aars` AARs could reach with eleven families."""

    step: int
    n_aars: int
    bits: float
    low: float
    high: float
    most: float


def entropy_bits(families: Sequence[IdeaFamily]) -> float:
    """0 when all are the same; at most log2 of how many there are."""
    return float(entropy(list(Counter(families).values()), base=2))


def diversity(
    ideas_by_aar: Mapping[str, Sequence[IdeaFamily | None]],
    min_aars: int = MIN_AARS,
    resamples: int = RESAMPLES,
) -> list[Diversity]:
    """One point a step. Ideas without a family (None) count as not active."""
    longest = max((len(ideas) for ideas in ideas_by_aar.values()), default=0)
    points = []
    for index in range(longest):
        here = [ideas[index] for ideas in ideas_by_aar.values() if len(ideas) > index]
        active = [family for family in here if family is not None]
        if len(active) >= min_aars:
            low, high = _band(active, resamples, index)
            most = math.log2(min(len(active), len(FAMILY_KEYS)))
            points.append(Diversity(index + 1, len(active), entropy_bits(active), low, high, most))
    return points


def _band(active: Sequence[IdeaFamily], resamples: int, seed: int) -> tuple[float, float]:
    """Percentiles of the entropy over resampled AARs; the same numbers for the same ideas."""
    rng = np.random.default_rng(seed)
    counts = np.array(list(Counter(active).values()), dtype=np.float64)
    drawn = rng.multinomial(len(active), counts / counts.sum(), size=resamples) / len(active)
    bits = entropy(drawn, base=2, axis=1)
    low, high = np.quantile(bits, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(max(low, 0.0)), float(high)
