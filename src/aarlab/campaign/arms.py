"""Arms: treatments by name, spelled out as AARs with equal budgets.

An arm's budget is that of one replicate: its AARs' limits summed up. `single` is one AAR with the
budget of all `aars` of its replicate, so that it compares to a team.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aarlab.agents.directions import DIRECTIONS
from aarlab.agents.language.spec import LanguageSpec
from aarlab.campaign.aars import AarSpec, ArmSpec, Preset
from aarlab.core.errors import BadInput
from aarlab.core.wire import Limits

NINE = (
    "elicitation",
    "reweighting",
    "combining",
    "distillation",
    "simplicity_bias",
    "training_dynamics",
    "evolution_strategies",
    "interpretability",
    "several_teachers",
)
UNDIRECTED = "undirected"


@dataclass(frozen=True, slots=True)
class Shared:
    """What arms take from the campaign where they say nothing themselves."""

    limits: Limits
    language: LanguageSpec | None = None
    directions: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Treatment:
    """One preset: who does the research, and what it is given."""

    researcher: str
    directed: bool = True
    forum: bool = True
    team_budget: bool = False
    language: Callable[[LanguageSpec], LanguageSpec] = lambda spec: spec


def _workflow(name: str) -> Callable[[LanguageSpec], LanguageSpec]:
    return lambda spec: spec.model_copy(update={"workflow": name})


def _alone(spec: LanguageSpec) -> LanguageSpec:
    return spec.model_copy(update={"forum": False})


ARMS: dict[Preset, Treatment] = {
    "directed": Treatment("language"),
    "undirected": Treatment("language", directed=False),
    "prescribed": Treatment("language", language=_workflow("prescribed")),
    "idea_pool": Treatment("language", directed=False, language=_workflow("pool")),
    "single": Treatment("language", directed=False, team_budget=True),
    "forum_off": Treatment("language", forum=False, language=_alone),
    "random": Treatment("random"),
    "evolutionary": Treatment("evolutionary"),
}


def expand(arms: Sequence[ArmSpec], shared: Shared) -> list[AarSpec]:
    """All AARs of all arms, named ARM-rREPLICATE-aNUMBER; BadInput says what an arm lacks."""
    return [
        _aar(arm, shared, replicate, number)
        for arm in arms
        for replicate in range(1, arm.replicates + 1)
        for number in range(1, (1 if ARMS[arm.arm].team_budget else arm.aars) + 1)
    ]


def _aar(arm: ArmSpec, shared: Shared, replicate: int, number: int) -> AarSpec:
    treatment, team = ARMS[arm.arm], f"{arm.label}-r{replicate}"
    name = f"{team}-a{number}"
    limits = shared.limits if arm.limits is None else arm.limits
    return AarSpec.model_validate(
        {
            "name": name,
            "researcher": treatment.researcher,
            "direction": _direction(arm, treatment, shared, number),
            "arm": arm.label,
            "team": team if treatment.forum else name,
            "replicate": replicate,
            "limits": _times(limits, arm.aars) if treatment.team_budget else limits,
            "language": _language(arm, treatment, shared),
            "seed": arm.seed + 1000 * replicate + number,
        }
    )


def _direction(arm: ArmSpec, treatment: Treatment, shared: Shared, number: int) -> str:
    if not treatment.directed:
        return UNDIRECTED
    given: Sequence[str] = arm.directions or shared.directions
    if treatment.researcher == "language":
        chosen = given or NINE
    else:  # control researchers know directions by name, no text
        own = [name for name in DIRECTIONS if name != UNDIRECTED]
        chosen = arm.directions or [name for name in given if name in own] or own
    return chosen[(number - 1) % len(chosen)]


def _language(arm: ArmSpec, treatment: Treatment, shared: Shared) -> LanguageSpec | None:
    if treatment.researcher != "language":
        return None
    given = arm.language or shared.language
    if given is None:
        raise BadInput(f"arm {arm.label} needs `language` (a model), its own or the campaign's")
    made = treatment.language(given)
    if made.workflow == "pool" and not made.idea_pool:
        raise BadInput(f"arm {arm.label} needs `language.idea_pool`, a list of ideas")
    return made


def _times(limits: Limits, n: int) -> Limits:
    scaled = {name: amount * n for name, amount in limits if amount is not None}
    return Limits.model_validate(scaled)


def budgets(aars: Sequence[AarSpec], shared: Limits) -> dict[str, dict[int, Limits]]:
    """By arm and replicate, the limits of its AARs summed up; baselines and guards are no arm."""
    found: dict[str, dict[int, list[Limits]]] = defaultdict(lambda: defaultdict(list))
    for aar in aars:
        if aar.role == "aar":
            found[aar.arm][aar.replicate].append(aar.limits or shared)
    return {
        arm: {number: _sum(limits) for number, limits in replicates.items()}
        for arm, replicates in found.items()
    }


def _sum(limits: Sequence[Limits]) -> Limits:
    """None where one of them has no limit."""
    totals = {}
    for name in Limits.model_fields:
        amounts = [getattr(each, name) for each in limits]
        totals[name] = None if None in amounts else sum(amounts)
    return Limits.model_validate(totals)


def unequal(aars: Sequence[AarSpec], shared: Limits) -> str:
    """What differs between the budgets of arms or replicates, in words; empty where all agree."""
    all_ = [
        (f"{arm} replicate {number}", limits)
        for arm, replicates in budgets(aars, shared).items()
        for number, limits in replicates.items()
    ]
    first, reference = all_[0] if all_ else ("", Limits())
    for who, limits in all_[1:]:
        for name, amount in limits:
            expected = getattr(reference, name)
            if amount != expected:
                return f"{name}: {_shown(expected)} for {first}, {_shown(amount)} for {who}"
    return ""


def _shown(amount: float | None) -> str:
    return "no limit" if amount is None else f"{amount:g}"
