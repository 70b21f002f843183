"""Ideas of a campaign in time: the family, size and diversity of the snapshots of AARs.

Diversity is the Shannon entropy, in bits, of the families that AARs work in at a step.

    H = - sum over families f of p_f log2 p_f,   p_f = share of the active AARs whose idea is in f

Step k is the k-th idea (snapshot) of each AAR; an AAR is active at k if it has one. Steps with
fewer than 5 active AARs are dropped. The band is a 90 % percentile bootstrap over AARs, as in the
study. It leans low, since a resample can only lose families.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import entropy

from aarlab.core.ideas import FAMILY_KEYS, Complexity, IdeaFamily
from aarlab.core.wire import CampaignExport
from aarlab.report.arms import Clock, Team, teams_of
from aarlab.report.view import CampaignView

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
    """Return the entropy: 0 when all are the same; at most log2 of how many there are."""
    return float(entropy(list(Counter(families).values()), base=2))


def diversity(
    ideas_by_aar: Mapping[str, Sequence[IdeaFamily | None]],
    min_aars: int = MIN_AARS,
    resamples: int = RESAMPLES,
) -> list[Diversity]:
    """Return one point per step. Ideas without a family (None) count as not active."""
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
    """Return percentiles of the entropy over resampled AARs; the same ideas give the same ones."""
    rng = np.random.default_rng(seed)
    counts = np.array(list(Counter(active).values()), dtype=np.float64)
    drawn = rng.multinomial(len(active), counts / counts.sum(), size=resamples) / len(active)
    bits = entropy(drawn, base=2, axis=1)
    low, high = np.quantile(bits, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(max(low, 0.0)), float(high)


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
    """Return AARs' ideas in time order; empty where the export was made without ideas."""
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
    """Return the entropy over the ideas of all AARs, and of each arm that has enough of them."""
    ideas = timed_ideas(view)
    groups: dict[str, dict[str, list[IdeaFamily | None]]] = {ALL: {}}
    for idea in ideas:
        for group in (ALL, idea.arm):
            groups.setdefault(group, {}).setdefault(idea.aar, []).append(idea.family)
    found = {name: diversity(by_aar) for name, by_aar in groups.items()}
    several = len(groups) > 2
    return {name: points for name, points in found.items() if points and (several or name == ALL)}


def family_counts(view: CampaignView) -> dict[str, Counter[IdeaFamily | None]]:
    """Return how many ideas of each family each arm had, in the order of the arms."""
    counts: dict[str, Counter[IdeaFamily | None]] = {
        team.arm: Counter() for team in teams_of(view.export)
    }
    for idea in timed_ideas(view):
        counts[idea.arm][idea.family] += 1
    return counts


def classifiers(export: CampaignExport) -> list[str]:
    """Say who classified, with how many ideas each."""
    counts = Counter(idea.classifier for idea in export.ideas)
    return [f"{classifier_words(name)} ({count})" for name, count in counts.items()]


def classifier_words(name: str) -> str:
    """Say who a classifier is: the built-in rules (`keywords-1`), or a language model."""
    kind, _, version = name.partition("-")
    if kind == "keywords" and version.isdigit():
        return f"the keyword rules of aarlab, version {version}"
    return f"the language model {name}"
