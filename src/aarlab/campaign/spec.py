"""A campaign as a frozen spec: what runs, on which task, with which budgets.

`methods: [folder]` of a spec names a person's own method folders as entries of a campaign. A folder
is read when the spec is loaded. The frozen spec holds its files, so later edits have no effect. All
own methods are run by one fixed researcher, as hand-tuned baselines are. Each becomes a snapshot,
is verified on the hidden split and is shown under the folder's name.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError, field_validator, model_validator

from aarlab.agents.prices import Price
from aarlab.agents.specs import ExternalSpec, LanguageSpec
from aarlab.campaign.aars import (
    VERIFIERS,
    ExecutorSpec,
    Frozen,
    Shared,
    TrialMemory,
    VerifiersSpec,
    above_zero,
    expand,
    unequal,
)
from aarlab.campaign.aars import AarSpec as AarSpec
from aarlab.campaign.aars import ArmSpec as ArmSpec
from aarlab.campaign.executing import executor_faults
from aarlab.campaign.reading import (
    SpecText,
    address_fault,
    faults_of,
    read_yaml,
    secret_lines,
    secrets_in,
    withheld,
    wrong,
)
from aarlab.core.errors import BadInput, Faulty
from aarlab.core.foreign import decoded, read_json
from aarlab.core.isolation import DEFAULT_SANDBOX, SandboxKind, is_isolated
from aarlab.core.layout import VERSION
from aarlab.core.wire import Limits, Name
from aarlab.core.wire_ledger import CampaignBudget, CampaignLimits
from aarlab.testbed.running.frozen_method import FrozenMethod, faults, folder_at, freeze_all
from aarlab.testbed.tasks.published import SETTINGS

AAR = "own"
MAX_METHODS = 20
Files = dict[str, str]  # base64 by relative path


def with_own_methods(raw: Any, folder: Path) -> Any:
    """Replace method folders by their files.

    A folder is given as a path relative to the spec's folder, or as an installed method's name.
    Raises BadInput for more than MAX_METHODS folders.
    """
    given = raw.get("methods") if isinstance(raw, dict) else None
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        return raw  # the validation says what is wrong
    if len(given) > MAX_METHODS:
        raise BadInput(f"{len(given)} method folders; a campaign has at most {MAX_METHODS}")
    frozen = freeze_all([folder_at(folder / Path(one).expanduser(), one) for one in given])
    return {**raw, "methods": {one.name: packed(one) for one in frozen}}


def packed(method: FrozenMethod) -> Files:
    return {path: base64.b64encode(data).decode() for path, data in method.files.items()}


def unpacked(name: str, files: Mapping[str, str]) -> FrozenMethod:
    """Decode the files of a method; raises ValueError for content that is not base64."""
    try:
        made = {path: base64.b64decode(text, validate=True) for path, text in files.items()}
    except binascii.Error as error:
        raise ValueError(f"method {name}: a file that is not base64 ({error})") from error
    return FrozenMethod(name, made)


def own_aar(names: list[str]) -> AarSpec:
    """Return the fixed researcher that runs each own method once on every task."""
    return AarSpec(name=AAR, researcher="fixed", role="human", arm="human", own=names)


TaskVersion = Annotated[str, Field(pattern=f"^{VERSION.pattern}$")]


class VerifySpec(Frozen):
    """What is re-run on the selection split, and on how many drawn seeds.

    The methods are the best of a task, arm and replicate. `ablations` are the kinds that the best
    `ablate_top` methods of a task get. Held-out tasks get all that is re-run and ablations, or with
    `held_out_top` that many of the best-ranked methods, the best hand-tuned baseline and no
    ablations. `seconds` of re-runs are the compute budget: ablations that would pass it are left
    out. With `certify` the best-ranked method of each task is scored on the certify split at the
    end, once.
    """

    top: Annotated[int, Field(ge=0)] = 5
    ablate_top: Annotated[int, Field(ge=0)] = 3
    ablations: list[Literal["permuted", "noise", "flipped"]] = Field(
        default=["permuted", "noise", "flipped"], description="what replaces the teacher's labels"
    )
    held_out_top: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="best-ranked methods re-run on held-out tasks; None: all chosen"
    )
    seconds: Annotated[float, Field(gt=0)] | None = None
    seeds: Annotated[int, Field(ge=2, le=64)] = 8
    parallel: Annotated[int, Field(ge=1)] = 2
    review_dollars: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="cap of all model reviews of code together"
    )
    live: bool = Field(default=True, description="also while AARs work, not only at the end")
    certify: bool = Field(default=True, description="score the best-ranked method once at the end")


class StudentServerSpec(Frozen):
    """Student servers that AARs' experiments use: texts, model and devices are there alone.

    `devices` is their number on one machine, one for each device; AARs take turns among them. Pods
    have theirs by `executor: devices_per_pod`.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: Annotated[int, Field(ge=1, le=64)] | Literal["all"] = 1


class BuildSpec(Frozen):
    """Tasks that `campaign run` builds from a data folder first, in a published setting.

    A task NAME-SETTING, such as chat-qwen-paper, is built from the folder NAME below `folder`. The
    models are those of the setting, of `pair`, or the folders `weak` and `strong`. Paths in a spec
    file are relative to it.
    """

    setting: str = "qwen-paper"
    folder: str
    pair: str | None = None
    weak: str | None = None
    strong: str | None = None
    baseline_seeds: Annotated[int, Field(ge=2, le=64)] = 16
    epochs: Annotated[int, Field(ge=1)] | None = Field(default=None, description="as published")

    @field_validator("setting")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in SETTINGS:
            raise ValueError(f"there are {', '.join(SETTINGS)}")
        return name

    @model_validator(mode="after")
    def _one_source_of_models(self) -> "BuildSpec":
        if (self.weak is None) != (self.strong is None):
            raise ValueError("give `weak` and `strong` together")
        if self.pair is not None and self.weak is not None:
            raise ValueError("give `pair`, or `weak` and `strong`, not both")
        return self

    def below(self, folder: Path) -> "BuildSpec":
        """Return it with relative paths taken from a folder."""
        given = {key: getattr(self, key) for key in ("folder", "weak", "strong")}
        paths = {
            key: str(folder / Path(value).expanduser()) for key, value in given.items() if value
        }
        return self.model_copy(update=paths)


class AlertSpec(Frozen):
    """When to alert the operator: events of kind `alert`, in `events.jsonl` and on the terminal."""

    crashes: Annotated[int, Field(ge=1)] = 2
    silent_minutes: Annotated[float, Field(gt=0)] = 60.0
    budget_share: Annotated[float, Field(gt=0, le=1)] = 0.8
    free_disk_gb: Annotated[float, Field(ge=0)] = 2.0


NotifyEvent = Literal[
    "campaign_started",
    "campaign_ended",
    "control",
    "aar_ended",
    "method_verified",
    "process_restarted",
    "process",
    "crashing",
    "silent",
    "waiting",
    "account",
    "budget",
    "budget_reached",
    "audit",
    "disk",
]


class NotifySpec(Frozen):
    """Which events are sent to a webhook (campaign.webhook).

    `url` is published with the spec. An address with a secret part, a secret to sign with and a
    token come from the settings (campaign.settings), which replace `url`.
    """

    url: Annotated[str, Field(max_length=2000)] | None = None
    events: list[NotifyEvent] = Field(default=list(get_args(NotifyEvent)))

    @field_validator("url")
    @classmethod
    def _url_is_an_address(cls, given: str | None) -> str | None:
        if given is not None and (fault := address_fault(given)):
            raise wrong(fault)
        return given


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
    methods: dict[Name, Files] = Field(
        default={}, description="own method folders; in a spec file a list of paths"
    )
    unequal_budgets: bool = Field(
        default=False, description="compare arms although their budgets differ"
    )
    language: LanguageSpec | None = None
    directions: list[Annotated[str, Field(min_length=1, max_length=4000)]] = Field(default=[])
    prices: dict[str, Price] = Field(default={})
    limits: Limits = Limits(submissions=12, hours=1.0).finite()
    campaign_limits: CampaignLimits = CampaignLimits()
    seeds_per_submission: Annotated[int, Field(ge=1, le=16)] = 3
    trial_timeout_s: Annotated[float, Field(gt=0)] = 600.0
    trial_memory_mb: TrialMemory | None = Field(
        default=None,
        description="of a run of a method; None: 4,096, more with a model in the sandbox",
    )
    isolation: SandboxKind = DEFAULT_SANDBOX
    executor: ExecutorSpec = ExecutorSpec()
    student_server: StudentServerSpec | None = Field(
        default=None, description="for AARs' experiments; None: a method's sandbox trains its own"
    )
    sandbox_devices: bool = Field(
        default=False,
        description="commands of language-model AARs may hold a GPU, in sandboxes that see it",
    )
    build: BuildSpec | None = Field(
        default=None, description="tasks that are built first; not part of the frozen spec"
    )
    exact_feedback: bool = False
    verify: VerifySpec = VerifySpec()
    alerts: AlertSpec = AlertSpec()
    notify: NotifySpec | None = Field(
        default=None, description="a webhook; None: no events are sent"
    )
    device_dollars_per_hour: Annotated[float, Field(ge=0, le=1e6)] = 0.0

    @model_validator(mode="before")
    @classmethod
    def _named_versions(cls, given: Any) -> Any:
        """Split `tasks: [chat@0123456789ab]` into `tasks: [chat]` and an entry of `versions`."""
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

    _above_zero = field_validator("limits", "campaign_limits")(above_zero)

    @model_validator(mode="after")
    def _parts_fit(self) -> "CampaignSpec":
        if not self.aars and not self.arms and not self.methods:
            raise ValueError("`aars`, `arms` or `methods` must be given")
        names = [aar.name for aar in self.aars]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            at = len(names) - 1 - names[::-1].index(twice[0])
            raise wrong(f"names of AARs must differ; twice: {', '.join(twice)}", "aars", at, "name")
        if taken := sorted({"operator", "signing", "signing.pub"} & set(names)):
            at = names.index(taken[0])
            raise wrong(f"{taken[0]} is a name of the platform's own", "aars", at, "name")
        labels = [arm.label for arm in self.arms]
        if twice := sorted({name for name in labels if labels.count(name) > 1}):
            at = len(labels) - 1 - labels[::-1].index(twice[0])
            raise wrong(f"give arms a `name` each; twice: {', '.join(twice)}", "arms", at)
        self._pods_fit()
        self._devices_fit()
        self._tasks_fit()
        self._own_methods_fit()
        for number, aar in enumerate(self.aars):
            if aar.researcher == "language" and self.language_of(aar) is None:
                said = f"{aar.name} needs `language` (a model), its own or the campaign's"
                raise wrong(said, "aars", number)
        return self

    def _pods_fit(self) -> None:
        pods, students = self.executor.aars_per_pod is not None, self.student_server
        if students is not None and self.executor.name != "local" and not pods:
            raise wrong(
                "a student server serves its own machine, and this executor runs AARs on others: "
                "give `executor: aars_per_pod`, and each pod has its own",
                "student_server",
            )
        if pods and students is not None and students.devices != 1:
            said = "a pod has `executor: devices_per_pod` student servers: leave it out"
            raise wrong(said, "student_server", "devices")
        if self.executor.devices_per_pod > 1 and (
            not pods or students is None or students.device == "auto"
        ):
            raise wrong(
                "several devices are for pods (`aars_per_pod`) with `student_server: {device: "
                "cuda}`, or with `device: cpu`, where servers share the cores",
                "executor",
                "devices_per_pod",
            )

        if self.executor.state == "kept":
            self._kept_fits()
        if self.executor.verifiers is not None:
            self._verifiers_fit(self.executor.verifiers)

    def _verifiers_fit(self, wanted: VerifiersSpec) -> None:
        for number, aar in enumerate(self.aars):
            if aar.name.startswith(VERIFIERS):
                said = f"names that start with {VERIFIERS} are those of verification pods"
                raise wrong(said, "aars", number, "name")
        students = self.student_server
        if (wanted.gpus or 0) > 1 and students is not None and students.device == "auto":
            said = "several devices of a pod need `student_server: {device: cuda}`"
            raise wrong(said, "executor", "verifiers", "gpus")

    def _devices_fit(self) -> None:
        if not self.sandbox_devices:
            return
        if self.student_server is not None:
            raise wrong(
                "a student server has its device alone: leave it out, or `student_server`",
                "sandbox_devices",
            )
        if not is_isolated(self.isolation):
            raise wrong("needs `isolation: bubblewrap`", "sandbox_devices")
        if not any(aar.researcher == "language" for aar in self.aars):
            raise wrong("is for AARs of researcher `language`", "sandbox_devices")

    def _kept_fits(self) -> None:
        if self.executor.aars_per_pod is None:
            said = "`kept` is for pods: give `aars_per_pod`, which may be 1"
            raise wrong(said, "executor", "state")

    def _tasks_fit(self) -> None:
        for place, tasks in (("tasks", self.tasks), ("held_out", self.held_out)):
            if twice := sorted({task for task in tasks if tasks.count(task) > 1}):
                raise wrong(f"twice: {', '.join(twice)}", place)
        if both := sorted(set(self.tasks) & set(self.held_out)):
            raise wrong(f"must not be among `tasks`: {', '.join(both)}", "held_out")
        if other := sorted(set(self.versions) - {*self.tasks, *self.held_out}):
            raise wrong(
                f"names tasks that this campaign does not have: {', '.join(other)}", "versions"
            )

    def _own_methods_fit(self) -> None:
        """Check that own methods are complete, uniquely named and run only by their researcher."""
        for name, files in self.methods.items():
            try:
                found = next(faults(unpacked(name, files)), None)
            except BadInput as error:
                raise wrong(str(error), "methods") from error
            if found:
                raise wrong(found, "methods")
        others = {name for aar in self.aars for name in (*aar.methods, *aar.recipes)}
        if both := sorted(others & self.methods.keys()):
            raise wrong(f"need other names; taken: {', '.join(both)}", "methods")
        wanted = own_aar(list(self.methods)) if self.methods else None
        for aar in self.aars:
            if (aar.own or (self.methods and aar.name == AAR)) and aar != wanted:
                raise ValueError(
                    f"{aar.name}: own methods are listed in `methods` of the campaign, and the "
                    f"name `{AAR}` is kept for what runs them"
                )

    @model_validator(mode="after")
    def _arms_fit(self) -> "CampaignSpec":
        """Check that each arm can be expanded and that compared arms have equal budgets.

        AARs outside the arms (a guest with its own limits, baselines) are not compared.
        """
        made = []
        for number, arm in enumerate(self.arms):
            try:
                made += expand([arm], self._shared)
            except BadInput as error:
                raise wrong(str(error), "arms", number) from error
        if self.unequal_budgets or not made:
            return self
        if differs := unequal(made, self.limits):
            raise wrong(
                f"compared arms have unequal budgets ({differs}): make them equal, or set "
                "`unequal_budgets: true`",
                "arms",
            )
        return self

    @property
    def _shared(self) -> Shared:
        return Shared(self.limits, self.language, self.directions)

    def expanded(self) -> "CampaignSpec":
        """Return the spec with the AARs of all arms and of own methods added to `aars`.

        AARs that are already listed are not added again.
        """
        made = expand(self.arms, self._shared)
        made += [own_aar(list(self.methods))] if self.methods else []
        known = {aar.name for aar in self.aars}
        more = [aar for aar in made if aar.name not in known]
        return self.model_copy(update={"aars": [*self.aars, *more]})

    def limits_of(self, aar: AarSpec) -> Limits:
        if aar.fixed:  # each on every task; the policy has them verified without being asked
            return Limits(submissions=len(aar.fixed) * len(self.tasks), methods=0)
        return aar.limits or self.limits

    def memory_of(self, aar: AarSpec) -> int | None:
        """Return the MB that a run of this AAR's method may use; None where the task decides."""
        return aar.trial_memory_mb or self.trial_memory_mb

    @property
    def most_memory_mb(self) -> int:
        """Return the MB that a re-run may use at least.

        It is at least what any trial before it had; 0 if no AAR says.
        """
        return max((self.memory_of(aar) or 0 for aar in self.aars), default=0)

    def language_of(self, aar: AarSpec) -> LanguageSpec | None:
        return (aar.language or self.language) if aar.researcher == "language" else None

    def external_of(self, aar: AarSpec) -> ExternalSpec | None:
        return (aar.external or ExternalSpec()) if aar.researcher == "external" else None

    def joins_by_itself(self, aar: AarSpec) -> bool:
        """Return whether another maker's agent works elsewhere and calls over MCP."""
        external = self.external_of(aar)
        return external is not None and external.agent == "mcp"

    @property
    def models(self) -> list[str]:
        """Return all models that AARs of this campaign call, paid or not."""
        specs = [self.language_of(aar) or self.external_of(aar) for aar in self.aars]
        return sorted({spec.model for spec in specs if spec is not None and spec.model})

    @property
    def budget(self) -> CampaignBudget:
        return CampaignBudget(
            limits=self.campaign_limits, device_dollars_per_hour=self.device_dollars_per_hour
        )


def load_spec(path: Path) -> CampaignSpec:
    """Read a YAML or JSON spec; raises Faulty, which names the file and the line of each fault."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read campaign spec {path}: {error.strerror}") from error
    return read_spec(raw, str(path), path.parent)


def read_spec(raw: bytes | str, where: str, folder: Path | None = None) -> CampaignSpec:
    """Parse a spec and expand its arms; raises Faulty with all faults.

    If the spec holds secrets, only those are reported and no other check is made. Without `folder`,
    recipes and own methods cannot be given as paths.
    """
    text = read_yaml(raw)
    if isinstance(text, list):
        shown = raw if isinstance(raw, str) else raw.decode(errors="replace")
        raise Faulty(
            f"{where} is not a campaign spec:", secret_lines(shown) or withheld(text, shown)
        )
    if secrets := secrets_in(text):
        raise Faulty(f"{where} holds secrets and is refused; nothing was written:", secrets)
    if folder is not None:
        value = with_own_methods(_with_recipes(text.value, folder), folder)
        text = replace(text, value=value)
    spec = parse_spec(text.value, where, text)
    if spec.build is not None and folder is not None:
        spec = spec.model_copy(update={"build": spec.build.below(folder.absolute())})
    if faults_found := executor_faults(spec.executor, text):
        raise Faulty(f"{where} is not a campaign spec:", faults_found)
    return spec


def _with_recipes(raw: Any, folder: Path) -> Any:
    """Replace recipes given as paths, relative to the spec's folder, by their content."""
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
    path = folder / value
    try:
        text = decoded(path.read_bytes(), f"recipe {path}")
    except OSError as error:
        raise BadInput(f"cannot read recipe {path}: {error.strerror}") from error
    except ValueError as error:  # a NUL in a path
        raise BadInput(f"cannot read recipe {str(path)!r}: {error}") from error
    return read_json(text.encode(), f"recipe {path}")


def parse_spec(raw: Any, where: str, text: SpecText | None = None) -> CampaignSpec:
    """Validate a spec and expand its arms.

    Raises Faulty, which names each invalid field, with its line if `text` is given.
    """
    try:
        return CampaignSpec.model_validate(raw).expanded()
    except ValidationError as error:
        known = text or SpecText(raw)
        raise Faulty(
            f"{where} is not a campaign spec:", faults_of(error, CampaignSpec, known)
        ) from error
