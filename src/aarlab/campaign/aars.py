"""AARs of a spec, one by one or as arms.

Arms are treatments by name, spelled out as AARs with equal budgets. An arm's budget is that of one
replicate: its AARs' limits summed up. `single` is one AAR with the budget of all `aars` of its
replicate, so that it compares to a team.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from aarlab.agents.directions import DIRECTIONS
from aarlab.agents.specs import ExternalSpec, LanguageSpec
from aarlab.campaign.reading import wrong
from aarlab.core.errors import BadInput
from aarlab.core.wire import Limits, Name
from aarlab.core.wire_base import Strict, Team
from aarlab.core.wire_ledger import CampaignLimits
from aarlab.testbed.recipes.recipe import recipe_from

Researcher = Literal["random", "evolutionary", "fixed", "language", "external"]
Preset = Literal[
    "directed",
    "undirected",
    "prescribed",
    "idea_pool",
    "single",
    "forum_off",
    "random",
    "evolutionary",
]


VERIFIERS = "verifiers-"  # start of the names of verification pods
TrialMemory = Annotated[int, Field(ge=1024, le=2**22)]  # torch alone takes 800 of address space


class Frozen(Strict):
    """A part of a spec."""


def above_zero(limits: Limits | CampaignLimits | None) -> Limits | CampaignLimits | None:
    """Return the limits; raises a validator's error where one other than `methods` is 0.

    A limit of 0 would end an AAR at once. Without a number, `methods` gets its default.
    """
    for name, amount in limits or ():
        if amount == 0 and name != "methods":
            raise wrong("must be above 0; leave it out for no limit", name)
    return limits.finite() if isinstance(limits, Limits) else limits


class VerifiersSpec(Frozen):
    """Verification pods: jobs that do the campaign's re-runs, each on a machine with its devices.

    Each does `verify.parallel` re-runs at once, or one for each of its `gpus` if these are more.
    What is left out is not asked for, as with `executor`.
    """

    pods: Annotated[int, Field(ge=1, le=64)]
    cpus: Annotated[int, Field(ge=1)] | None = None
    gpus: Annotated[int, Field(ge=0, le=64)] | None = None
    memory_mb: Annotated[int, Field(ge=1024)] | None = None
    hours: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_number(cls, given: Any) -> Any:
        """Read `verifiers: 2` as `verifiers: {pods: 2}`."""
        return {"pods": given} if type(given) is int else given


class ExecutorSpec(Frozen):
    """Where AARs run, and with `verifiers` re-runs; all else is on the machine of the campaign.

    `cpus`, `gpus`, `memory_mb` and `hours` are asked for each AAR; None: as the executor does it.
    A pod asks for the cores and the memory of all its AARs together, and for `gpus` as they are.
    Whether the name and the options are good is checked where a spec is read and where a campaign
    is run (campaign.executing): a frozen spec stays readable where its executor is not installed.
    """

    name: Name = "local"
    options: dict[str, JsonValue] = Field(default={}, description="of that executor")
    cpus: Annotated[int, Field(ge=1)] | None = None
    gpus: Annotated[int, Field(ge=0)] | None = None
    memory_mb: Annotated[int, Field(ge=1024)] | None = None
    hours: Annotated[float, Field(gt=0)] | None = None
    aars_per_pod: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="AARs of one job, on one machine; None: a job for each AAR"
    )
    state: Literal["shared", "kept"] = Field(
        default="shared",
        description="kept: pods share no folder with the campaign, and the platform keeps the "
        "state of their AARs",
    )
    devices_per_pod: Annotated[int, Field(ge=1, le=64)] = Field(
        default=1, description="student servers of a pod, one for each of its devices"
    )
    verifiers: VerifiersSpec | None = Field(
        default=None, description="pods that do re-runs; None: the campaign's machine does them"
    )

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        """Read `executor: slurm` as `executor: {name: slurm}`."""
        return {"name": given} if isinstance(given, str) else given


class AarSpec(Frozen):
    """One AAR.

    `direction` names the part of the recipe grammar that a control researcher starts from. A
    language model is given it as text: that of a direction that ships, or its own.

    A `fixed` researcher runs the named methods and the given recipes once each: hand-tuned
    baselines and guards. In a spec file a recipe may be the path of a JSON file, e.g. one that
    `aarlab testbed sweep` wrote; the frozen spec holds its content.
    """

    name: Name
    researcher: Researcher
    direction: Annotated[str, Field(max_length=4000)] = ""
    arm: Name = "directed"
    team: Team = Field(default="", description="sees findings and code of its team only")
    replicate: Annotated[int, Field(ge=1)] = 1
    role: Literal["aar", "human", "guard"] = "aar"
    limits: Limits | None = Field(default=None, description="None: those of the campaign")
    trial_memory_mb: TrialMemory | None = Field(default=None, description="None: the campaign's")
    methods: list[str] = Field(default=[])
    recipes: dict[str, dict[str, Any]] = Field(default={})
    own: list[Name] = Field(default=[], description="of the campaign's `methods`, by name")
    language: LanguageSpec | None = Field(default=None, description="None: the campaign's")
    external: ExternalSpec | None = Field(default=None, description="None: it joins over MCP")
    seed: int = 0

    _above_zero = field_validator("limits")(above_zero)

    @model_validator(mode="after")
    def _parts_belong_to_the_researcher(self) -> "AarSpec":
        if (self.researcher == "fixed") != bool(self.fixed):
            raise ValueError(
                "`methods`, `recipes` or `own` must be given for researcher `fixed` and for no "
                "other"
            )
        if self.language is not None and self.researcher != "language":
            raise wrong("belongs to researcher `language` and to no other", "language")
        if self.external is not None and self.researcher != "external":
            raise wrong("belongs to researcher `external` and to no other", "external")
        if self.trial_memory_mb is not None and self.researcher == "external":
            said = "an external agent's memory is `external.memory_mb`"
            raise wrong(said, "trial_memory_mb")
        for name, recipe in self.recipes.items():
            try:
                recipe_from(recipe)
            except BadInput as error:
                raise wrong(f"recipe {name}: {error}", "recipes", name) from error
        return self

    @property
    def fixed(self) -> list[str]:
        """Return the names of all that a fixed researcher runs."""
        return [*self.methods, *self.recipes, *self.own]


class ArmSpec(Frozen):
    """AARs that share a treatment: `replicates` teams that do not know of each other.

    `arm` is a preset (campaign.arms); `name` tells two uses of one preset apart. What is left out
    comes from the campaign. `limits` are those of one AAR.
    """

    arm: Preset
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,39}$")] | None = None
    replicates: Annotated[int, Field(ge=1, le=100)] = 1
    aars: Annotated[int, Field(ge=1, le=100)] = 9
    directions: list[str] | None = None
    limits: Limits | None = None
    language: LanguageSpec | None = None
    seed: int = 0

    _above_zero = field_validator("limits")(above_zero)

    @property
    def label(self) -> str:
        return self.name or self.arm


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
    """Defaults that arms take from the campaign."""

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


def _with(**changes: object) -> Callable[[LanguageSpec], LanguageSpec]:
    return lambda spec: spec.model_copy(update=changes)


ARMS: dict[Preset, Treatment] = {
    "directed": Treatment("language"),
    "undirected": Treatment("language", directed=False),
    "prescribed": Treatment("language", language=_with(workflow="prescribed")),
    "idea_pool": Treatment("language", directed=False, language=_with(workflow="pool")),
    "single": Treatment("language", directed=False, team_budget=True),
    "forum_off": Treatment("language", forum=False, language=_with(forum=False)),
    "random": Treatment("random"),
    "evolutionary": Treatment("evolutionary"),
}


def expand(arms: Sequence[ArmSpec], shared: Shared) -> list[AarSpec]:
    """Return all AARs of all arms, named ARM-rREPLICATE-aNUMBER.

    BadInput says what an arm lacks.
    """
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
    """Return the summed limits of the AARs by arm and replicate.

    Baselines and guards belong to none.
    """
    found: dict[str, dict[int, list[Limits]]] = defaultdict(lambda: defaultdict(list))
    for aar in aars:
        if aar.role == "aar":
            found[aar.arm][aar.replicate].append(aar.limits or shared)
    return {
        arm: {number: _sum(limits) for number, limits in replicates.items()}
        for arm, replicates in found.items()
    }


def _sum(limits: Sequence[Limits]) -> Limits:
    """Return the sums of limits; None where one of them has no limit."""
    totals = {}
    for name in Limits.model_fields:
        amounts = [getattr(each, name) for each in limits]
        totals[name] = None if None in amounts else sum(amounts)
    return Limits.model_validate(totals)


def unequal(aars: Sequence[AarSpec], shared: Limits) -> str:
    """Return how the budgets of arms or replicates differ, in words; empty where all agree."""
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
