"""A campaign is a frozen spec: what runs, on which task, with which budgets."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aarlab.core.errors import BadInput
from aarlab.core.wire import Isolation, Limits, Name

Researcher = Literal["random", "evolutionary", "fixed"]


class Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AarSpec(Frozen):
    """One AAR. `direction` names the part of the recipe grammar a control researcher starts from.

    A `fixed` researcher runs the named methods once each: hand-tuned baselines and guards.
    """

    name: Name
    researcher: Researcher
    direction: Annotated[str, Field(max_length=500)] = ""
    arm: Name = "directed"
    role: Literal["aar", "human", "guard"] = "aar"
    methods: list[str] = []
    seed: int = 0

    @model_validator(mode="after")
    def _methods_belong_to_fixed(self) -> "AarSpec":
        if (self.researcher == "fixed") != bool(self.methods):
            raise ValueError("`methods` must be given for researcher `fixed` and for no other")
        return self


class VerifySpec(Frozen):
    """How many of the best methods are re-run on the selection split, on how many drawn seeds.

    `seconds` of re-runs are the compute budget: ablations that would pass it are left out.
    """

    top: Annotated[int, Field(ge=0)] = 5
    ablate_top: Annotated[int, Field(ge=0)] = 3
    seconds: Annotated[float, Field(gt=0)] | None = None
    seeds: Annotated[int, Field(ge=2, le=64)] = 8
    parallel: Annotated[int, Field(ge=1)] = 2


class CampaignSpec(Frozen):
    """Everything that changes a result; seeds of verification are drawn later by the server."""

    name: Name
    tasks: Annotated[list[Name], Field(min_length=1)]
    held_out: list[Name] = []
    aars: Annotated[list[AarSpec], Field(min_length=1)]
    limits: Limits = Limits(submissions=12, hours=1.0)
    seeds_per_submission: Annotated[int, Field(ge=1, le=16)] = 3
    trial_timeout_s: Annotated[float, Field(gt=0)] = 600.0
    isolation: Isolation = "bubblewrap"
    exact_feedback: bool = False
    verify: VerifySpec = VerifySpec()
    device_dollars_per_hour: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _names_are_unique(self) -> "CampaignSpec":
        names = [aar.name for aar in self.aars]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"AAR names must be unique; twice: {', '.join(twice)}")
        if both := sorted(set(self.tasks) & set(self.held_out)):
            raise ValueError(f"held-out tasks must not be among `tasks`: {', '.join(both)}")
        return self


def load_spec(path: Path) -> CampaignSpec:
    """Read a YAML or JSON spec; BadInput names the file and each wrong field."""
    try:
        raw: Any = yaml.safe_load(path.read_text())
    except OSError as error:
        raise BadInput(f"cannot read campaign spec {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not valid YAML: {error}") from error
    return parse_spec(raw, str(path))


def parse_spec(raw: Any, where: str) -> CampaignSpec:
    try:
        return CampaignSpec.model_validate(raw)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, item['loc'])) or 'spec'}: {item['msg']}"
            for item in error.errors()
        ]
        raise BadInput(f"{where} is not a campaign spec:\n" + "\n".join(lines)) from error
