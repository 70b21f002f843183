"""What a spec says about AARs, one by one or as arms."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from aarlab.agents.external.spec import ExternalSpec
from aarlab.agents.language.spec import LanguageSpec
from aarlab.campaign.reading import wrong
from aarlab.core.errors import BadInput
from aarlab.core.wire import Limits, Name
from aarlab.core.wire_base import Strict, Team
from aarlab.core.wire_ledger import CampaignLimits
from aarlab.testbed.recipe import recipe_from

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


class AarSpec(Frozen):
    """One AAR. `direction` names the part of the recipe grammar a control researcher starts from;
    a language model is given it as text: that of a direction that ships, or its own.

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
        """Names of all that a fixed researcher runs."""
        return [*self.methods, *self.recipes, *self.own]


class ArmSpec(Frozen):
    """AARs that share a treatment: `replicates` teams that know nothing of each other.

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
