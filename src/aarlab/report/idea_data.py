"""Ideas of a campaign in time: the family and size of every snapshot of an AAR."""

from collections import Counter
from dataclasses import dataclass

from aarlab.core.ideas import Complexity, IdeaFamily
from aarlab.core.wire import CampaignExport
from aarlab.report.diversity import Diversity, diversity
from aarlab.report.teams import Clock, Team, teams_of
from aarlab.report.view import CampaignView

ALL = "all AARs"


@dataclass(frozen=True, slots=True)
class TimedIdea:
    """`hours` are the campaign's cumulative research hours when the snapshot was made."""

    snapshot: str
    aar: str
    arm: str
    hours: float
    family: IdeaFamily | None
    complexity: Complexity | None


def timed_ideas(view: CampaignView) -> list[TimedIdea]:
    """In time order, AARs only; empty where the export was made without ideas."""
    ideas = {idea.snapshot: idea for idea in view.export.ideas}
    arms = {aar.name: aar.arm for aar in view.aars}
    clock = Clock(view.export.sessions, Team("", 1, view.aars))
    return [
        TimedIdea(
            s.id, s.aar, arms[s.aar], clock.hours(s.at), ideas[s.id].family, ideas[s.id].complexity
        )
        for s in sorted(view.export.snapshots, key=lambda s: s.at)
        if s.aar in arms and s.id in ideas
    ]


def diversity_by_group(view: CampaignView) -> dict[str, list[Diversity]]:
    """Entropy over the ideas of all AARs, and of each arm that has enough of them."""
    ideas = timed_ideas(view)
    groups: dict[str, dict[str, list[IdeaFamily | None]]] = {ALL: {}}
    for idea in ideas:
        for group in (ALL, idea.arm):
            groups.setdefault(group, {}).setdefault(idea.aar, []).append(idea.family)
    found = {name: diversity(by_aar) for name, by_aar in groups.items()}
    several = len(groups) > 2
    return {name: points for name, points in found.items() if points and (several or name == ALL)}


def family_counts(view: CampaignView) -> dict[str, Counter[IdeaFamily | None]]:
    """How many ideas of each family each arm had, in the order of the arms."""
    counts: dict[str, Counter[IdeaFamily | None]] = {
        team.arm: Counter() for team in teams_of(view.export)
    }
    for idea in timed_ideas(view):
        counts[idea.arm][idea.family] += 1
    return counts


def classifiers(export: CampaignExport) -> list[str]:
    """Who classified, with how many ideas each."""
    return [
        f"{name} ({count})" for name, count in Counter(i.classifier for i in export.ideas).items()
    ]
