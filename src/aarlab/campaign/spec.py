"""A campaign is a frozen spec: what runs, on which task, with which budgets."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aarlab.core.errors import BadInput
from aarlab.core.wire import Isolation, Limits, Name
from aarlab.testbed.recipe import recipe_from

Researcher = Literal["random", "evolutionary", "fixed"]


class Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AarSpec(Frozen):
    """One AAR. `direction` names the part of the recipe grammar a control researcher starts from.

    A `fixed` researcher runs the named methods and the given recipes once each: hand-tuned
    baselines and guards. In a spec file a recipe may be the path of a JSON file, e.g. one that
    `aarlab testbed sweep` wrote; the frozen spec holds its content.
    """

    name: Name
    researcher: Researcher
    direction: Annotated[str, Field(max_length=500)] = ""
    arm: Name = "directed"
    role: Literal["aar", "human", "guard"] = "aar"
    methods: list[str] = []
    recipes: dict[str, dict[str, Any]] = {}
    seed: int = 0

    @model_validator(mode="after")
    def _methods_belong_to_fixed(self) -> "AarSpec":
        if (self.researcher == "fixed") != bool(self.fixed):
            raise ValueError(
                "`methods` or `recipes` must be given for researcher `fixed` and for no other"
            )
        for name, recipe in self.recipes.items():
            try:
                recipe_from(recipe)
            except BadInput as error:
                raise ValueError(f"recipe {name}: {error}") from error
        return self

    @property
    def fixed(self) -> list[str]:
        """Names of all that a fixed researcher runs."""
        return [*self.methods, *self.recipes]


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
    return parse_spec(_with_recipes(raw, path.parent), str(path))


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
        return json.loads((folder / value).read_text())
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot read recipe {folder / value}: {error}") from error


def parse_spec(raw: Any, where: str) -> CampaignSpec:
    try:
        return CampaignSpec.model_validate(raw)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, item['loc'])) or 'spec'}: {item['msg']}"
            for item in error.errors()
        ]
        raise BadInput(f"{where} is not a campaign spec:\n" + "\n".join(lines)) from error
