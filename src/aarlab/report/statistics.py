"""Numbers derived from PGR estimates: pure functions. PGR itself comes from core.pgr only."""

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

from aarlab.core.wire import Interval


class Point(NamedTuple):
    """A score at a time: cumulative research hours and its estimate."""

    hours: float
    estimate: Interval


def best_so_far(points: Iterable[Point]) -> list[Point]:
    """Points that raised the running maximum, in time order; ties keep the earlier one."""
    raised: list[Point] = []
    for point in sorted(points, key=lambda point: point.hours):
        if not raised or point.estimate.value > raised[-1].estimate.value:
            raised.append(point)
    return raised


def frontier(points_by_aar: Iterable[Iterable[Point]]) -> list[Point]:
    """Running maximum over all AARs together."""
    return best_so_far(point for points in points_by_aar for point in points)


def expected_maximum(stderr: float, n_tried: int) -> float:
    """How far the best of `n_tried` equally good methods stands above their mean by luck.

    SD sqrt(2 ln N), the usual upper bound for N normal scores; 0 when nothing was chosen.
    """
    return stderr * math.sqrt(2 * math.log(n_tried)) if n_tried > 1 else 0.0


def typical_stderr(estimates: Sequence[Interval]) -> float | None:
    return median(estimate.stderr for estimate in estimates) if estimates else None
