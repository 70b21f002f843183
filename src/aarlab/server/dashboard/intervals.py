"""Small bars with whiskers, as numbers for an SVG: a PGR from 0 to its value, its 95 % interval."""

from collections.abc import Iterable
from typing import NamedTuple

WIDTH = 160.0
MARGIN = 4.0


class Axis(NamedTuple):
    """Maps a PGR to a place in the drawing."""

    low: float
    high: float

    def x(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        share = (inside - self.low) / (self.high - self.low)
        return round(MARGIN + share * (WIDTH - 2 * MARGIN), 1)


class Bar(NamedTuple):
    """`left` and `width` of the bar; the whisker; where 0 and 1 are."""

    left: float
    width: float
    value: float
    low: float
    high: float
    zero: float
    one: float


def axis_of(values: Iterable[float]) -> Axis:
    """From 0 to 1 at least, at most from -1 to 1.5."""
    known = [0.0, 1.0, *values]
    return Axis(max(min(known), -1.0), min(max(known), 1.5))


def bar(axis: Axis, value: float, low: float, high: float) -> Bar:
    zero, end = axis.x(0.0), axis.x(value)
    return Bar(
        left=min(zero, end),
        width=round(abs(end - zero), 1),
        value=end,
        low=axis.x(low),
        high=axis.x(high),
        zero=zero,
        one=axis.x(1.0),
    )
