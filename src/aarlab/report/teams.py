"""Teams: the AARs of one replicate of one arm, what each team reached, and at what time.

A replicate is an independent run of an arm under the same budgets; teams are what arms are compared
over. Research time counts per team, over all its AARs together.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from aarlab.core.wire import AarRecord, CampaignExport, Interval, SessionRecord
from aarlab.report.statistics import Point, best_so_far, expected_maximum
from aarlab.report.view import CampaignView, Method, role_of_record


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
    """What a team reached. `rises` are the steps of its best search PGR over its own hours;
    `at_equal_h` is where that stood at the hours that every compared team has had."""

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
        """The best verified PGR less what the best of `n_verified` equal ones gains by luck."""
        if self.best is None or self.best.verified is None:
            return None
        estimate = self.best.verified
        return estimate.value - expected_maximum(estimate.stderr, self.n_verified)


def teams_of(export: CampaignExport) -> list[Team]:
    """In the order of the export's AARs; baselines are in no team."""
    found: dict[tuple[str, int], list[AarRecord]] = {}
    for aar in export.aars:
        if role_of_record(aar) == "aar":
            found.setdefault((aar.arm, aar.replicate), []).append(aar)
    return [Team(arm, number, tuple(aars)) for (arm, number), aars in found.items()]


def equal_hours(teams: Sequence[Team]) -> float:
    """Research hours that every team with any has had: the smallest of their totals."""
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
    """The best so far at a time, None before the first score."""
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
