"""PGR against cumulative research hours, and bars with whiskers, as numbers for an SVG.

Legend: M submissions, S sessions.

The curve has one line per AAR, the frontier of all, and baselines. A line is the best so far. A
share link shows the best as its AAR saw it (shaped); the operator sees exact values.

A bar shows a PGR from 0 to its value, with its 95 % interval.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aarlab.core.clock import parse_iso
from aarlab.core.wire import SessionRecord
from aarlab.server.dashboard.memory import Memory
from aarlab.store.overview import Sent

MAX_DOTS = 1500
Floats = NDArray[np.float64]
Facts = dict[str, Any]


def research_hours(times: Sequence[str], sessions: Sequence[SessionRecord]) -> Floats:
    """Return the research hours of all AARs together until each time; (M,)."""
    if not sessions or not times:
        return np.zeros(len(times))
    until_M = np.array([parse_iso(at).timestamp() for at in times])
    begun_S = np.array([parse_iso(s.started_at).timestamp() for s in sessions])
    seen_S = np.array([parse_iso(s.last_seen_at).timestamp() for s in sessions])
    total_M = np.zeros(len(until_M))
    for begun, seen in zip(begun_S, seen_S, strict=True):
        total_M += np.clip(np.minimum(until_M, seen) - begun, 0.0, None)
    return total_M / 3600


class _Point(NamedTuple):
    """A submission: research hours of all AARs until it, its PGR, and its method."""

    hour: float
    value: float
    method: str


def curve(
    memory: Memory, values: Sequence[float], sessions: Sequence[SessionRecord], task: str
) -> Facts:
    """Return the series of one task.

    `values[i]` is the PGR of `memory.sent[i]`, as far as there are any.
    """
    places = [i for i, s in enumerate(memory.sent[: len(values)]) if s.task == task]
    places = [i for i in places if not math.isnan(values[i])]
    hours = research_hours([memory.sent[i].at for i in places], sessions)
    roles = memory.roles()
    points: dict[str, list[_Point]] = {}
    for place, hour in zip(places, hours, strict=True):
        sent = memory.sent[place]
        point = _Point(round(float(hour), 4), round(float(values[place]), 3), sent.method)
        points.setdefault(sent.aar, []).append(point)
    looks = memory.looks()
    research = {a: p for a, p in points.items() if roles.get(a) in ("language", "control")}
    return {
        "task": task,
        "series": [
            {
                "aar": aar,
                "role": roles[aar],
                "look": looks[aar]._asdict(),
                "best": _best(found),
                "dots": _thinned(found),
            }
            for aar, found in research.items()
        ],
        "frontier": _best(sorted(p for found in research.values() for p in found)),
        "baselines": [
            {"aar": aar, "role": roles[aar], "method": name, "pgr": value, "hour": hour}
            for aar, found in points.items()
            if roles.get(aar) in ("human", "guard")
            for hour, value, name in found
        ],
    }


def _best(found: Sequence[_Point]) -> list[list[float]]:
    """Return the steps of the best so far."""
    steps: list[list[float]] = []
    for hour, value, _ in found:
        if not steps or value > steps[-1][1]:
            steps.append([hour, value])
    if found and steps[-1][0] < found[-1][0]:
        steps.append([found[-1][0], steps[-1][1]])
    return steps


def _thinned(found: Sequence[_Point]) -> list[list[float]]:
    """Return each submission, or every n-th of very many."""
    every = math.ceil(len(found) / MAX_DOTS) or 1
    return [[hour, value] for hour, value, _ in found[::every]]


def shown_values(sent: Sequence[Sent]) -> list[float]:
    """Return the PGR that each AAR saw, in the same order."""
    return [s.shown for s in sent]


WIDTH = 160.0
MARGIN = 4.0


class Axis(NamedTuple):
    """Maps a PGR to a position in the drawing."""

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
    """Return an axis from 0 to 1 at least, and from -1 to 1.5 at most."""
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
