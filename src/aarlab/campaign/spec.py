"""A campaign is a frozen spec: what runs, on which task, with which budgets."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_validator

from aarlab.agents.external.spec import ExternalSpec
from aarlab.agents.language.spec import LanguageSpec
from aarlab.agents.prices import Price
from aarlab.campaign import arms, own_methods
from aarlab.campaign.aars import AarSpec as AarSpec
from aarlab.campaign.aars import ArmSpec as ArmSpec
from aarlab.campaign.aars import Frozen, TrialMemory
from aarlab.core.errors import BadInput
from aarlab.core.foreign import decoded, read_json, read_yaml
from aarlab.core.layout import VERSION
from aarlab.core.wire import Isolation, Limits, Name
from aarlab.core.wire_ledger import CampaignBudget, CampaignLimits
from aarlab.testbed.frozen_method import faults

TaskVersion = Annotated[str, Field(pattern=f"^{VERSION.pattern}$")]


class VerifySpec(Frozen):
    """How many of the best methods of a task, arm and replicate are re-run on the selection split,
    on how many drawn seeds.

    `seconds` of re-runs are the compute budget: ablations that would pass it are left out.
    """

    top: Annotated[int, Field(ge=0)] = 5
    ablate_top: Annotated[int, Field(ge=0)] = 3
    seconds: Annotated[float, Field(gt=0)] | None = None
    seeds: Annotated[int, Field(ge=2, le=64)] = 8
    parallel: Annotated[int, Field(ge=1)] = 2
    review_dollars: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="cap of all model reviews of code together"
    )
    live: bool = Field(default=True, description="also while AARs work, not only at the end")


class AlertSpec(Frozen):
    """When the operator is told: events of kind `alert`, in `events.jsonl` and on the terminal."""

    crashes: Annotated[int, Field(ge=1)] = 2
    silent_minutes: Annotated[float, Field(gt=0)] = 60.0
    budget_share: Annotated[float, Field(gt=0, le=1)] = 0.9
    free_disk_gb: Annotated[float, Field(ge=0)] = 2.0


class CampaignSpec(Frozen):
    """Everything that changes a result; seeds of verification are drawn later by the server.

    `limits` are those of each AAR, `campaign_limits` of all together. Read from a file or frozen,
    `aars` also holds what `arms` stands for.
    """

    name: Name
    tasks: Annotated[list[Name], Field(min_length=1)]
    held_out: list[Name] = Field(default=[])
    versions: dict[Name, TaskVersion] = Field(
        default={}, description="of tasks; given as NAME@VERSION, frozen when the campaign is made"
    )
    aars: list[AarSpec] = Field(default=[])
    arms: list[ArmSpec] = Field(default=[])
    methods: dict[Name, own_methods.Files] = Field(
        default={}, description="own method folders; in a spec file a list of paths"
    )
    unequal_budgets: bool = Field(default=False, description="compare arms all the same")
    language: LanguageSpec | None = None
    directions: list[Annotated[str, Field(min_length=1, max_length=4000)]] = Field(default=[])
    prices: dict[str, Price] = Field(default={})
    limits: Limits = Limits(submissions=12, hours=1.0)
    campaign_limits: CampaignLimits = CampaignLimits()
    seeds_per_submission: Annotated[int, Field(ge=1, le=16)] = 3
    trial_timeout_s: Annotated[float, Field(gt=0)] = 600.0
    trial_memory_mb: TrialMemory | None = Field(
        default=None, description="of a run of a method; None: 4,096, more with a model at hand"
    )
    isolation: Isolation = "bubblewrap"
    exact_feedback: bool = False
    verify: VerifySpec = VerifySpec()
    alerts: AlertSpec = AlertSpec()
    device_dollars_per_hour: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="before")
    @classmethod
    def _named_versions(cls, given: Any) -> Any:
        """`tasks: [chat@0123456789ab]` is `tasks: [chat]` and the version of it."""
        if not isinstance(given, dict):
            return given
        split, found = dict(given), dict[str, str]()
        for key in ("tasks", "held_out"):
            listed = split.get(key)
            if isinstance(listed, list):
                split[key] = [t.partition("@")[0] if isinstance(t, str) else t for t in listed]
                named = (t.partition("@") for t in listed if isinstance(t, str))
                found |= {name: version for name, at, version in named if at}
        if found and isinstance(split.get("versions", {}), dict):
            split["versions"] = {**split.get("versions", {}), **found}
        return split

    @field_validator("prices", mode="before")
    @classmethod
    def _prices_know_their_model(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {
            model: {"model": model, **price} if isinstance(price, dict) else price
            for model, price in given.items()
        }

    @model_validator(mode="after")
    def _parts_fit(self) -> "CampaignSpec":
        if not self.aars and not self.arms and not self.methods:
            raise ValueError("`aars`, `arms` or `methods` must be given")
        names = [aar.name for aar in self.aars]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"AAR names must be unique; twice: {', '.join(twice)}")
        labels = [arm.label for arm in self.arms]
        if twice := sorted({name for name in labels if labels.count(name) > 1}):
            raise ValueError(f"give arms a `name` each; twice: {', '.join(twice)}")
        if both := sorted(set(self.tasks) & set(self.held_out)):
            raise ValueError(f"held-out tasks must not be among `tasks`: {', '.join(both)}")
        if other := sorted(set(self.versions) - {*self.tasks, *self.held_out}):
            raise ValueError(f"`versions` names no task of this campaign: {', '.join(other)}")
        self._own_methods_fit()
        for aar in self.aars:
            if aar.researcher == "language" and self.language_of(aar) is None:
                raise ValueError(f"{aar.name} needs `language` (a model), or the campaign does")
        return self

    def _own_methods_fit(self) -> None:
        """Each is whole, has a name of its own, and is run by the researcher made for it."""
        for name, files in self.methods.items():
            try:
                found = next(faults(own_methods.unpacked(name, files)), None)
            except BadInput as error:
                raise ValueError(str(error)) from error
            if found:
                raise ValueError(found)
        others = {name for aar in self.aars for name in (*aar.methods, *aar.recipes)}
        if both := sorted(others & self.methods.keys()):
            raise ValueError(f"own methods need names of their own; taken: {', '.join(both)}")
        wanted = own_methods.own_aar(list(self.methods)) if self.methods else None
        for aar in self.aars:
            if (aar.own or (self.methods and aar.name == own_methods.AAR)) and aar != wanted:
                raise ValueError(
                    f"{aar.name}: own methods are listed in `methods` of the campaign, and the "
                    f"name `{own_methods.AAR}` is kept for what runs them"
                )

    @model_validator(mode="after")
    def _arms_compare(self) -> "CampaignSpec":
        if self.arms and not self.unequal_budgets:
            arm_aars = [aar for aar in self.expanded().aars if aar.team]
            if differs := arms.unequal(arm_aars, self.limits):
                raise ValueError(
                    f"compared arms have unequal budgets ({differs}): make them equal, or say "
                    "`unequal_budgets: true`"
                )
        return self

    def expanded(self) -> "CampaignSpec":
        """With the AARs of all arms and of own methods among `aars`; the same again where they
        are there already."""
        shared = arms.Shared(self.limits, self.language, self.directions)
        try:
            made = arms.expand(self.arms, shared)
        except BadInput as error:
            raise ValueError(str(error)) from error
        made += [own_methods.own_aar(list(self.methods))] if self.methods else []
        known = {aar.name for aar in self.aars}
        more = [aar for aar in made if aar.name not in known]
        return self.model_copy(update={"aars": [*self.aars, *more]})

    def limits_of(self, aar: AarSpec) -> Limits:
        if aar.fixed:  # each on every task
            return Limits(submissions=len(aar.fixed) * len(self.tasks))
        return aar.limits or self.limits

    def memory_of(self, aar: AarSpec) -> int | None:
        """MB that a run of this AAR's method may use; None where the task decides."""
        return aar.trial_memory_mb or self.trial_memory_mb

    @property
    def most_memory_mb(self) -> int:
        """What a re-run may use at least: no less than any trial before it; 0 where none says."""
        return max((self.memory_of(aar) or 0 for aar in self.aars), default=0)

    def language_of(self, aar: AarSpec) -> LanguageSpec | None:
        return (aar.language or self.language) if aar.researcher == "language" else None

    def external_of(self, aar: AarSpec) -> ExternalSpec | None:
        return (aar.external or ExternalSpec()) if aar.researcher == "external" else None

    def joins_by_itself(self, aar: AarSpec) -> bool:
        """Another maker's agent, which works elsewhere and calls over MCP."""
        external = self.external_of(aar)
        return external is not None and external.agent == "mcp"

    @property
    def models(self) -> list[str]:
        """Paid or not, all that AARs of this campaign call."""
        specs = [self.language_of(aar) or self.external_of(aar) for aar in self.aars]
        return sorted({spec.model for spec in specs if spec is not None and spec.model})

    @property
    def budget(self) -> CampaignBudget:
        return CampaignBudget(
            limits=self.campaign_limits, device_dollars_per_hour=self.device_dollars_per_hour
        )


def load_spec(path: Path) -> CampaignSpec:
    """Read a YAML or JSON spec; BadInput names the file and each wrong field."""
    try:
        raw: Any = read_yaml(path.read_bytes(), str(path))
    except OSError as error:
        raise BadInput(f"cannot read campaign spec {path}: {error.strerror}") from error
    raw = own_methods.with_own_methods(_with_recipes(raw, path.parent), path.parent)
    return parse_spec(raw, str(path))


def _with_recipes(raw: Any, folder: Path) -> Any:
    """Recipes given as paths, relative to the spec's folder, become their content."""
    if not isinstance(raw, dict) or not isinstance(raw.get("aars"), list):
        return raw  # the validation says what is wrong
    aars = []
    for aar in raw["aars"]:
        given = aar.get("recipes") if isinstance(aar, dict) else None
        if isinstance(given, dict):
            read = {name: _recipe_content(value, folder) for name, value in given.items()}
            aar = {**aar, "recipes": read}
        aars.append(aar)
    return {**raw, "aars": aars}


def _recipe_content(value: Any, folder: Path) -> Any:
    if not isinstance(value, str):
        return value
    try:
        text = decoded((folder / value).read_bytes(), f"recipe {folder / value}")
    except OSError as error:
        raise BadInput(f"cannot read recipe {folder / value}: {error.strerror}") from error
    return read_json(text.encode(), f"recipe {folder / value}")


def parse_spec(raw: Any, where: str) -> CampaignSpec:
    """The spec with its arms spelled out; BadInput names each wrong field."""
    try:
        return CampaignSpec.model_validate(raw).expanded()
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, item['loc'])) or 'spec'}: {item['msg']}"
            for item in error.errors()
        ]
        raise BadInput(f"{where} is not a campaign spec:\n" + "\n".join(lines)) from error
