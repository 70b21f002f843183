"""Comparison of arms, or whole campaigns: what their teams reached and how far they differ.

Teams are the AARs of one replicate of one arm, with what each team reached and at what time. A
replicate is an independent run of an arm under the same budgets; teams are what arms are compared
over. Research time counts per team, over all its AARs together.

Differences between groups of replicates have Welch's interval and test, and a permutation test.
Replicates are independent runs under the same settings, so groups are compared unpaired, and their
spread need not be equal: Welch's t (1947). A bootstrap over two to five replicates covers far less
than it claims (docs/report.md has the simulation), so it is not used for arms.
"""

import math
import warnings
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from aarlab.core.wire import AarRecord, CampaignExport, Interval, SessionRecord
from aarlab.report.view import (
    CampaignView,
    Method,
    Point,
    best_so_far,
    expected_maximum,
    role_of_record,
)

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
    """Return mean and interval of the values; None without a value."""
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


class Sample(NamedTuple):
    """A group's name and its value per replicate."""

    name: str
    values: Sequence[float]


def difference(a: Sample, b: Sample, level: float = LEVEL) -> Difference:
    """Compare two groups.

    An interval needs two replicates in each group, and some variation in one of them.
    """
    first, second = a.values, b.values
    counts = (a.name, b.name, len(first), len(second))
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
    """Return the differences with `p_holm`: Holm's step-down over those with a Welch's p."""
    tested = sorted(
        (d.p_welch, index) for index, d in enumerate(differences) if d.p_welch is not None
    )
    found, largest = list(differences), 0.0
    for rank, (p, index) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        found[index] = found[index]._replace(p_holm=largest)
    return found


@dataclass(frozen=True, slots=True)
class Team:
    """`hours` are the research hours of all its AARs together."""

    arm: str
    replicate: int
    aars: tuple[AarRecord, ...]

    @property
    def names(self) -> frozenset[str]:
        return frozenset(aar.name for aar in self.aars)

    @property
    def hours(self) -> float:
        return sum(aar.research_s for aar in self.aars) / 3600


@dataclass(frozen=True, slots=True)
class Reached:
    """What a team reached.

    `rises` are the steps of its best search PGR over its own hours. `at_equal_h` is where that
    stood at the hours that every compared team has had.
    """

    team: Team
    n_submissions: int
    n_verified: int
    best: Method | None
    rises: tuple[Point, ...]
    at_equal_h: Interval | None

    @property
    def verified(self) -> float | None:
        return self.best.verified.value if self.best and self.best.verified else None

    @property
    def corrected(self) -> float | None:
        """Return the best verified PGR, corrected for the number of verified methods.

        It is less what the best of `n_verified` equal ones gains by luck.
        """
        if self.best is None or self.best.verified is None:
            return None
        estimate = self.best.verified
        return estimate.value - expected_maximum(estimate.stderr, self.n_verified)


def teams_of(export: CampaignExport) -> list[Team]:
    """Return the teams in the order of the export's AARs; baselines are in none."""
    found: dict[tuple[str, int], list[AarRecord]] = {}
    for aar in export.aars:
        if role_of_record(aar) == "aar":
            found.setdefault((aar.arm, aar.replicate), []).append(aar)
    return [Team(arm, number, tuple(aars)) for (arm, number), aars in found.items()]


def equal_hours(teams: Sequence[Team]) -> float:
    """Return the research hours that every team with any has had: the smallest of their totals."""
    return min((team.hours for team in teams if team.hours > 0), default=0.0)


def reached(view: CampaignView, team: Team, equal_h: float) -> Reached:
    mine = [s for s in view.submissions if s.aar in team.names]
    clock = Clock(view.export.sessions, team)
    rises = best_so_far(Point(clock.hours(s.at), s.exact) for s in mine)
    verified = [m for m in view.standing if m.aar in team.names]
    return Reached(
        team=team,
        n_submissions=len(mine),
        n_verified=len(verified),
        best=verified[0] if verified else None,
        rises=tuple(rises),
        at_equal_h=at_hours(rises, equal_h),
    )


def at_hours(rises: Sequence[Point], hours: float) -> Interval | None:
    """Return the best so far at a time, None before the first score."""
    index = bisect_right([point.hours for point in rises], hours + 1e-9)
    return rises[index - 1].estimate if index else None


class Clock:
    """A team's research hours up to a moment, from the sessions of its AARs."""

    def __init__(self, sessions: Sequence[SessionRecord], team: Team) -> None:
        self._spans = [
            (datetime.fromisoformat(s.started_at), datetime.fromisoformat(s.last_seen_at))
            for s in sessions
            if s.aar in team.names
        ]

    def hours(self, at: str) -> float:
        moment = datetime.fromisoformat(at)
        seconds = ((min(end, moment) - start).total_seconds() for start, end in self._spans)
        return sum(max(s, 0.0) for s in seconds) / 3600


REFERENCE = "directed"


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of one team. `of` gives None where the team has none.

    `title` has a place for the name of the problem's figure.
    """

    key: str
    title: str
    of: Callable[[Reached], float | None]

    def named(self, figure: str) -> str:
        """Return the title with the name of the problem's figure."""
        return self.title.format(figure=figure)


MEASURES = (
    Measure("verified", "Best verified {figure}, selection", lambda r: r.verified),
    Measure("corrected", "The same, corrected for the number verified", lambda r: r.corrected),
    Measure(
        "equal_hours",
        "Best search {figure} at equal research hours",
        lambda r: r.at_equal_h.value if r.at_equal_h else None,
    ),
)


@dataclass(frozen=True, slots=True)
class Group:
    """Teams that were run alike: an arm, or a campaign of a comparison."""

    name: str
    teams: tuple[Reached, ...]

    def values(self, measure: Measure) -> list[float]:
        return [value for team in self.teams if (value := measure.of(team)) is not None]

    def sample(self, measure: Measure) -> Sample:
        return Sample(self.name, self.values(measure))

    def spread(self, measure: Measure) -> Spread | None:
        return spread(self.values(measure))


@dataclass(frozen=True, slots=True)
class Comparison:
    """`differences` are every other group minus the reference (the last), by measure key."""

    groups: tuple[Group, ...]
    reference: str
    equal_h: float
    differences: dict[str, tuple[Difference, ...]]
    figure: str = "PGR"  # name of the problem's figure

    @property
    def replicates(self) -> int:
        """Return the replicates of the group that has fewest."""
        return min((len(group.teams) for group in self.groups), default=0)


def compare_arms(view: CampaignView) -> Comparison | None:
    """Compare the arms of one campaign; None with fewer than two."""
    teams = teams_of(view.export)
    arms = list(dict.fromkeys(team.arm for team in teams))
    if len(arms) < 2:
        return None
    sides = [Side(arm, view, [team for team in teams if team.arm == arm]) for arm in arms]
    return compare(sides, REFERENCE if REFERENCE in arms else arms[0])


class Side(NamedTuple):
    """A group to compare: its name, the campaign it belongs to and its teams."""

    name: str
    view: CampaignView
    teams: Sequence[Team]


def compare(sides: Sequence[Side], reference: str) -> Comparison:
    """Compare the sides; every other one is measured against `reference`."""
    equal_h = equal_hours([team for side in sides for team in side.teams])
    groups = tuple(
        Group(side.name, tuple(reached(side.view, team, equal_h) for team in side.teams))
        for side in sides
    )
    figure = sides[0].view.problem.figure
    return Comparison(groups, reference, equal_h, _differences(groups, reference), figure)


def _differences(groups: Sequence[Group], reference: str) -> dict[str, tuple[Difference, ...]]:
    base = next(group for group in groups if group.name == reference)
    others = [group for group in groups if group.name != reference]
    return {
        measure.key: tuple(
            corrected([difference(o.sample(measure), base.sample(measure)) for o in others])
        )
        for measure in MEASURES
    }
