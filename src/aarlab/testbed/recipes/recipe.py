"""A recipe is a declarative method: label -> select -> train -> predict, frozen, hashable, in JSON.

    label    which soft targets the student gets: the weak labels of one teacher or of all of them,
             the strong model's own zero-shot margin, or a combination of both models
    select   which train rows are kept
    train    loss, size, length and order of training; layers; rounds of self-training
    predict  one student, an ensemble over inner seeds, a blend with the zero-shot margin

This module says what a recipe may be, and draws, changes and crosses recipes; `run_recipe.py` says
what a recipe does. It loads neither numpy nor torch, so that control researchers can search without
a model.

Functions that draw, change or cross recipes return a recipe in normal form (options without effect
at their default), so that equal methods are equal recipes.
"""

import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args

from annotated_types import Ge, Le
from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo

from aarlab.core.errors import BadInput
from aarlab.core.foreign import read_json
from aarlab.core.hashing import content_hash
from aarlab.core.options import Options, explain
from aarlab.testbed.students.options import HeadOptions, LossName

LabelSource = Literal[
    "weak", "zero_shot", "posterior", "blend", "em_posterior", "teachers", "votes"
]
ZeroShotKind = Literal["pmi", "mean_pmi", "corrected"]
SelectKind = Literal[
    "all", "confident", "threshold", "agreement", "neighbours", "overlap", "out_of_fold"
]
PredictKind = Literal["student", "zero_shot", "blend"]
LayerCount = Literal["one", "three", "all"]
LOG: dict[str, Any] = {"log": True}
ADDED: dict[str, Any] = {"added": True}
"""Marks an option that the first recipes did not have. At its default it is left out of the hash,
so that a recipe keeps the hash under which it was recorded."""
RANKED = ["confident", "neighbours", "overlap"]  # kinds that keep a share of the rows


def _only(**when: list[Any]) -> dict[str, Any]:
    """Mark an option that matters only for the given values of options of the same stage."""
    return {"when": when}


class LabelStage(Options):
    """Soft targets before selection.

    posterior: sigmoid(weak log-odds + weight x zero-shot margin); blend: (1-share) weak + share
    zero-shot probability; em_posterior: method 28, `weight` scales its prior. teachers: the
    mean label of all weak teachers of the run; votes: the share of them that say 1, so that the
    confidence of a label is how far the teachers agree. With one teacher, teachers is weak and
    votes is weak rounded. `temperature` divides the log-odds of the result.
    """

    source: LabelSource = "weak"
    zero_shot: Annotated[
        ZeroShotKind, Field(json_schema_extra=_only(source=["zero_shot", "posterior", "blend"]))
    ] = "pmi"
    weight: Annotated[
        float,
        Field(
            ge=0, le=4, json_schema_extra=_only(source=["zero_shot", "posterior", "em_posterior"])
        ),
    ] = 1.5
    share: Annotated[float, Field(ge=0, le=1, json_schema_extra=_only(source=["blend"]))] = 0.5
    temperature: Annotated[float, Field(ge=0.25, le=4, json_schema_extra=LOG)] = 1.0


class SelectStage(Options):
    """Which rows are trained on.

    confident: the `keep` share with labels farthest from 1/2; threshold: P(class) > `threshold`;
    agreement: rows where label and zero-shot margin have the same sign; neighbours: the `keep`
    share whose `k` nearest neighbours among the frozen states carry the same label most often;
    overlap: the `keep` share with the highest overlap density, see `stages.select`; out_of_fold:
    rows whose label is also predicted by students that were not trained on the row's problem.
    `balanced` takes the same share of each class.
    """

    kind: SelectKind = "all"
    keep: Annotated[float, Field(ge=0.1, le=1, json_schema_extra=_only(kind=RANKED))] = 0.5
    threshold: Annotated[
        float, Field(ge=0.5, le=0.95, json_schema_extra=_only(kind=["threshold"]))
    ] = 0.75
    balanced: Annotated[bool, Field(json_schema_extra=_only(kind=RANKED))] = True
    zero_shot: Annotated[ZeroShotKind, Field(json_schema_extra=_only(kind=["agreement"]))] = "pmi"
    k: Annotated[
        int, Field(ge=5, le=100, json_schema_extra=_only(kind=["neighbours", "overlap"]))
    ] = 50


class TrainStage(Options):
    """How the student learns.

    targets hard rounds the labels; order confident_first trains two epochs on the more confident
    half, then on all rows at half the learning rate (method 15); weighting confidence weighs a
    row by |2w - 1|; each of `rounds` replaces the labels by out-of-fold predictions
    (self-training). `layers` is the number of layers of the strong model with a student each, whose
    probabilities are averaged: the task's student layer; that one and the nearest stored layer
    below and above it; or all that the task stores.
    """

    targets: Literal["soft", "hard"] = "soft"
    loss: LossName = "ce"
    a_max: Annotated[
        float, Field(ge=0, le=0.9, json_schema_extra=_only(loss=["aux_confidence", "entropy"]))
    ] = 0.5
    alpha: Annotated[float, Field(ge=0, le=2, json_schema_extra=_only(loss=["product"]))] = 1.0
    beta: Annotated[float, Field(ge=0, le=2, json_schema_extra=_only(loss=["product"]))] = 1.0
    radius: Annotated[float, Field(ge=0.05, le=0.45, json_schema_extra=_only(loss=["window"]))] = (
        0.15
    )
    smoothing: Annotated[float, Field(ge=0, le=0.4)] = 0.0
    hidden: Literal[0, 16, 64, 128] | None = None
    epochs: Annotated[int | None, Field(ge=1, le=20, json_schema_extra=LOG)] = None
    lr: Annotated[float | None, Field(ge=1e-4, le=1e-2, json_schema_extra=LOG)] = None
    weight_decay: Annotated[float | None, Field(ge=1e-3, le=30, json_schema_extra=LOG)] = None
    weighting: Literal["none", "confidence"] = "none"
    order: Literal["mixed", "confident_first"] = "mixed"
    # a round costs as much as all other training together, so more of them are drawn more rarely
    rounds: Annotated[int, Field(ge=0, le=3, json_schema_extra={"odds": [4, 2, 1, 1]})] = 0
    folds: Annotated[int, Field(ge=2, le=5, json_schema_extra=_only(rounds=[1, 2, 3]))] = 2
    layers: Annotated[LayerCount, Field(json_schema_extra=ADDED)] = "one"

    def head(self, default: HeadOptions, seed: int) -> HeadOptions:
        """Return the options of one training; None takes the task's default adaptation."""
        own = {"targets", "weighting", "order", "rounds", "folds", "layers"}
        chosen = self.model_dump(exclude=own, exclude_none=True)
        return HeadOptions(**{**default.model_dump(), **chosen, "seed": seed})


class PredictStage(Options):
    """How the students predict.

    student: the mean of `members` students on inner seeds; zero_shot: no student at all; blend:
    sigmoid(student log-odds + weight x zero-shot margin).
    """

    # zero_shot switches everything else off, so it is drawn rarely
    kind: Annotated[PredictKind, Field(json_schema_extra={"odds": [8, 1, 3]})] = "student"
    members: Annotated[
        int, Field(ge=1, le=8, json_schema_extra={**LOG, **_only(kind=["student", "blend"])})
    ] = 1
    zero_shot: Annotated[
        ZeroShotKind, Field(json_schema_extra=_only(kind=["zero_shot", "blend"]))
    ] = "pmi"
    weight: Annotated[float, Field(ge=0, le=4, json_schema_extra=_only(kind=["blend"]))] = 0.5


class Recipe(Options):
    """One declarative method. Raises BadInput naming an unknown option or a value out of range."""

    label: LabelStage = LabelStage()
    select: SelectStage = SelectStage()
    train: TrainStage = TrainStage()
    predict: PredictStage = PredictStage()

    def to_json(self) -> str:
        return json.dumps(self.model_dump(), indent=1) + "\n"

    def hash(self) -> str:
        """Return 16 hex digits, the same for recipes that differ only in options without effect."""
        stages: dict[str, Any] = normal(self).model_dump()
        for stage, options in STAGES.items():
            for name, field in options.model_fields.items():
                if _extra(field).get("added") and stages[stage][name] == field.default:
                    del stages[stage][name]
        return content_hash(stages)[:16]

    @property
    def asks_zero_shot(self) -> bool:
        """Return whether a run needs the strong model's log-likelihoods of the answers."""
        plain = normal(self)
        return (
            plain.label.source in ("zero_shot", "posterior", "blend", "em_posterior")
            or plain.select.kind == "agreement"
            or plain.predict.kind != "student"
        )

    def describe(self) -> str:
        """Describe the recipe in one line, without options at their default or without effect."""
        parts = []
        for stage in STAGES:
            options = getattr(normal(self), stage)
            first, *rest = type(options).model_fields
            changed = [
                f"{name}={_short(getattr(options, name))}"
                for name in rest
                if getattr(options, name) != type(options).model_fields[name].default
            ]
            parts.append(" ".join([str(getattr(options, first)), *changed]))
        return " → ".join(parts)


RECIPE_FILE = "recipe.json"
STAGES: dict[str, type[Options]] = {
    "label": LabelStage,
    "select": SelectStage,
    "train": TrainStage,
    "predict": PredictStage,
}


def recipe_from(value: Any) -> Recipe:
    """Make a recipe from parsed JSON; raises BadInput naming each wrong option."""
    if isinstance(value, Recipe):
        return value
    try:
        return Recipe.model_validate(value)
    except ValidationError as error:
        raise BadInput(explain("recipe", error)) from error


def recipe_from_json(text: str, where: str = "recipe") -> Recipe:
    """Make a recipe from untrusted text; raises BadInput also for what is not JSON."""
    return recipe_from(read_json(text.encode(errors="replace"), where))


def is_active(options: Options, name: str) -> bool:
    """Return whether an option of a stage has any effect, given the stage's other options."""
    when = _extra(type(options).model_fields[name]).get("when", {})
    return all(getattr(options, other) in values for other, values in when.items())


def normal(recipe: Recipe) -> Recipe:
    """Return the same method with every option that has no effect at its default."""
    stages = {}
    for stage in STAGES:
        options = getattr(recipe, stage)
        idle = {
            name: field.default
            for name, field in type(options).model_fields.items()
            if not is_active(options, name)
        }
        stages[stage] = options.model_copy(update=idle)
    if recipe.predict.kind == "zero_shot":  # no student: the first three stages do nothing
        stages |= {name: kind() for name, kind in STAGES.items() if name != "predict"}
    return recipe.model_copy(update=stages)


def _extra(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    return dict(extra) if isinstance(extra, dict) else {}


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


OptionKind = Literal["choice", "int", "float"]
Fixed = Mapping[str, Any]
ATTEMPTS = 200


@dataclass(frozen=True, slots=True)
class OptionSpec:
    """One option, addressed as `stage.name`.

    `choices` for kind choice (booleans too), else the closed range `low`..`high`, on a log scale
    where `log`. `odds` weigh the draws of choices and of the integers of a range. `when` maps other
    options of the stage to the values under which this one has an effect.
    """

    stage: str
    name: str
    kind: OptionKind
    default: Any
    choices: tuple[Any, ...] = ()
    odds: tuple[float, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    when: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    @property
    def path(self) -> str:
        return f"{self.stage}.{self.name}"

    def draw(self, rng: random.Random) -> Any:
        """Draw a value inside the range, rounded to 3 significant digits."""
        if self.kind == "choice":
            return rng.choices(self.choices, self.odds or None)[0]
        if self.odds:
            return rng.choices(range(int(self.low), int(self.high) + 1), self.odds)[0]
        if self.kind == "int" and self.log:  # n as likely as the part n..n+1 of the scale
            drawn = math.exp(rng.uniform(math.log(self.low), math.log(self.high + 1)))
            return min(int(drawn), int(self.high))
        if self.kind == "int":
            return rng.randint(int(self.low), int(self.high))
        if self.log:
            return self._rounded(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return self._rounded(rng.uniform(self.low, self.high))

    def near(self, value: Any, rng: random.Random) -> Any:
        """Draw a neighbouring value: another choice, or a step of about a sixth of the range.

        The neighbour of None (the task's default) is any value.
        """
        if value is None:
            return self.draw(rng)
        if self.kind == "choice":
            drawn = [self.draw(rng) for _ in range(16)]
            return next((choice for choice in drawn if choice != value), value)
        spread = (math.log(self.high / self.low) if self.log else self.high - self.low) / 6
        step = rng.gauss(0, spread)
        moved = value * math.exp(step) if self.log else value + step
        if self.kind == "int":
            other = round(moved) if round(moved) != value else value + rng.choice((-1, 1))
            return int(min(max(other, self.low), self.high))
        return self._rounded(moved)

    def _rounded(self, value: float) -> float:
        return min(max(float(f"{value:.3g}"), self.low), self.high)


@cache
def space() -> Mapping[str, OptionSpec]:
    """Return the whole grammar, by path (`train.lr`), in stage order."""
    specs = [
        _spec(stage, name, field)
        for stage, options in STAGES.items()
        for name, field in options.model_fields.items()
    ]
    return MappingProxyType({spec.path: spec for spec in specs})


def sample(rng: random.Random, fixed: Fixed | None = None) -> Recipe:
    """Draw every option over its range; `fixed` pins some by path, e.g. a direction.

    The recipe is drawn again until every pin has an effect; BadInput when they exclude each other.
    """
    pins = _known(fixed)
    for _ in range(ATTEMPTS):
        drawn = {path: spec.draw(rng) for path, spec in space().items()}
        recipe = with_options(Recipe(), {**drawn, **pins})
        if _holds(recipe, pins):
            return recipe
    raise BadInput(f"no recipe has all of {dict(pins)} in effect")


def mutate(recipe: Recipe, rng: random.Random, n: int = 1, fixed: Fixed | None = None) -> Recipe:
    """Change `n` options that have an effect; pins that hold before hold after."""
    pins = {path: value for path, value in _known(fixed).items() if _holds(recipe, {path: value})}
    for _ in range(n):
        changed = (_one_change(recipe, rng, pins) for _ in range(ATTEMPTS))
        before = recipe
        recipe = next((new for new in changed if new != before and _holds(new, pins)), before)
    return recipe


def _one_change(recipe: Recipe, rng: random.Random, pins: Fixed) -> Recipe:
    live = [s for path, s in space().items() if path not in pins and _is_live(recipe, s)]
    spec = rng.choice(live)
    value = spec.near(_value(recipe, spec), rng)
    return _draw_woken(recipe, with_options(recipe, {spec.path: value}), rng)


def _holds(recipe: Recipe, pins: Fixed) -> bool:
    return all(
        _is_live(recipe, space()[path]) and _value(recipe, space()[path]) == value
        for path, value in pins.items()
    )


def _value(recipe: Recipe, spec: OptionSpec) -> Any:
    return getattr(getattr(recipe, spec.stage), spec.name)


def crossover(one: Recipe, other: Recipe, rng: random.Random) -> Recipe:
    """Take each stage from one parent, and the train stage option by option.

    The options of the train stage are separate.
    """
    stages: dict[str, Any] = {
        stage: getattr(rng.choice((one, other)), stage).model_dump() for stage in STAGES
    }
    stages["train"] = {
        name: getattr(rng.choice((one, other)).train, name) for name in STAGES["train"].model_fields
    }
    return normal(recipe_from(stages))


def with_options(recipe: Recipe, values: Fixed) -> Recipe:
    """Replace options by path; raises BadInput on an unknown path or bad value."""
    stages: dict[str, Any] = recipe.model_dump()
    for path, value in _known(values).items():
        stage, name = path.split(".")
        stages[stage][name] = value
    return normal(recipe_from(stages))


def _known(values: Fixed | None) -> Fixed:
    unknown = sorted(set(values or {}) - set(space()))
    if unknown:
        raise BadInput(f"unknown recipe options {unknown}; there are {', '.join(space())}")
    return values or {}


def _is_live(recipe: Recipe, spec: OptionSpec) -> bool:
    if recipe.predict.kind == "zero_shot" and spec.stage != "predict":
        return False
    return is_active(getattr(recipe, spec.stage), spec.name)


def _draw_woken(before: Recipe, after: Recipe, rng: random.Random) -> Recipe:
    """Half of the time, draw the options that had no effect before and have one now."""
    woken = {
        path: spec.draw(rng)
        for path, spec in space().items()
        if _is_live(after, spec) and not _is_live(before, spec)
    }
    return with_options(after, woken) if woken and rng.random() < 0.5 else after


def _spec(stage: str, name: str, field: FieldInfo) -> OptionSpec:
    extra = _extra(field)
    when = tuple((key, tuple(values)) for key, values in extra.get("when", {}).items())
    odds = tuple(extra.get("odds", ()))
    common: dict[str, Any] = {
        "stage": stage,
        "name": name,
        "default": field.default,
        "when": when,
        "odds": odds,
    }
    parts = get_args(field.annotation) or (field.annotation,)
    types = [part for part in parts if part is not type(None)]
    if types == [bool] or types[0] not in (int, float):
        literals = (value for part in types for value in (get_args(part) or (part,)))
        choices = (False, True) if types == [bool] else tuple(literals)
        return OptionSpec(kind="choice", choices=choices, **common)
    low = next(float(str(item.ge)) for item in field.metadata if isinstance(item, Ge))
    high = next(float(str(item.le)) for item in field.metadata if isinstance(item, Le))
    kind: OptionKind = "int" if types == [int] else "float"
    return OptionSpec(kind=kind, low=low, high=high, log=bool(extra.get("log")), **common)
