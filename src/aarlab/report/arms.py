"""Arms, or whole campaigns, beside each other: what their teams reached and how far they differ."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aarlab.report.comparing import Difference, Spread, corrected, difference, spread
from aarlab.report.teams import Reached, Team, equal_hours, reached, teams_of
from aarlab.report.view import CampaignView

REFERENCE = "directed"


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of one team. `of` gives None where the team has none."""

    key: str
    title: str
    of: Callable[[Reached], float | None]


MEASURES = (
    Measure("verified", "Best verified PGR, selection", lambda r: r.verified),
    Measure("corrected", "The same, corrected for the number verified", lambda r: r.corrected),
    Measure(
        "equal_hours",
        "Best search PGR at equal research hours",
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

    def spread(self, measure: Measure) -> Spread | None:
        return spread(self.values(measure))


@dataclass(frozen=True, slots=True)
class Comparison:
    """`differences` are every other group minus the reference (the last), by measure key."""

    groups: tuple[Group, ...]
    reference: str
    equal_h: float
    differences: dict[str, tuple[Difference, ...]]

    @property
    def replicates(self) -> int:
        """Of the group that has fewest."""
        return min((len(group.teams) for group in self.groups), default=0)


def compare_arms(view: CampaignView) -> Comparison | None:
    """The arms of one campaign; None with fewer than two."""
    teams = teams_of(view.export)
    arms = list(dict.fromkeys(team.arm for team in teams))
    if len(arms) < 2:
        return None
    named = [(arm, view, [team for team in teams if team.arm == arm]) for arm in arms]
    return compare(named, REFERENCE if REFERENCE in arms else arms[0])


def compare(
    named: Sequence[tuple[str, CampaignView, Sequence[Team]]], reference: str
) -> Comparison:
    """Groups by name, each with the campaign it belongs to and its teams."""
    equal_h = equal_hours([team for _, _, teams in named for team in teams])
    groups = tuple(
        Group(name, tuple(reached(view, team, equal_h) for team in teams))
        for name, view, teams in named
    )
    return Comparison(groups, reference, equal_h, _differences(groups, reference))


def _differences(groups: Sequence[Group], reference: str) -> dict[str, tuple[Difference, ...]]:
    base = next(group for group in groups if group.name == reference)
    others = [group for group in groups if group.name != reference]
    return {
        measure.key: tuple(
            corrected(
                [
                    difference((o.name, o.values(measure)), (base.name, base.values(measure)))
                    for o in others
                ]
            )
        )
        for measure in MEASURES
    }
