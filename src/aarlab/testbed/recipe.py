"""A recipe is a declarative method: label -> select -> train -> predict, frozen, hashable, in JSON.

    label    which soft targets the student gets: the weak labels, the strong model's own zero-shot
             margin, or a combination of the two
    select   which train rows are kept
    train    loss, size, length and order of training; rounds of self-training
    predict  one student, an ensemble over inner seeds, a blend with the zero-shot margin

This module says what a recipe may be, `space.py` how to draw and change one, `run_recipe.py` what
it does. It loads neither numpy nor torch, so that control researchers can search without a model.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from aarlab.core.canonical import content_hash
from aarlab.core.errors import BadInput
from aarlab.core.foreign import read_json
from aarlab.testbed.options import HeadOptions, LossName, Options, explain

LabelSource = Literal["weak", "zero_shot", "posterior", "blend", "em_posterior"]
ZeroShotKind = Literal["pmi", "mean_pmi", "corrected"]
SelectKind = Literal["all", "confident", "threshold", "agreement", "neighbours"]
PredictKind = Literal["student", "zero_shot", "blend"]
LOG: dict[str, Any] = {"log": True}


def _only(**when: list[Any]) -> dict[str, Any]:
    """The option matters only where the named options of the same stage have one of these
    values."""
    return {"when": when}


class LabelStage(Options):
    """Soft targets before selection.

    posterior: sigmoid(weak log-odds + weight x zero-shot margin); blend: (1-share) weak + share
    zero-shot probability; em_posterior: methods.md 28, `weight` scales its prior. `temperature`
    divides the log-odds of the result.
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
    share whose `k` nearest neighbours among the frozen states carry the same label most often.
    `balanced` takes the same share of each class.
    """

    kind: SelectKind = "all"
    keep: Annotated[
        float, Field(ge=0.1, le=1, json_schema_extra=_only(kind=["confident", "neighbours"]))
    ] = 0.5
    threshold: Annotated[
        float, Field(ge=0.5, le=0.95, json_schema_extra=_only(kind=["threshold"]))
    ] = 0.75
    balanced: Annotated[bool, Field(json_schema_extra=_only(kind=["confident", "neighbours"]))] = (
        True
    )
    zero_shot: Annotated[ZeroShotKind, Field(json_schema_extra=_only(kind=["agreement"]))] = "pmi"
    k: Annotated[int, Field(ge=5, le=100, json_schema_extra=_only(kind=["neighbours"]))] = 50


class TrainStage(Options):
    """How the student learns.

    targets hard rounds the labels; order confident_first trains two epochs on the more confident
    half, then on all rows at half the learning rate (methods.md 15); weighting confidence weighs a
    row by |2w - 1|; each of `rounds` replaces the labels by out-of-fold predictions
    (self-training).
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
    epochs: Annotated[int | None, Field(ge=1, le=20)] = None
    lr: Annotated[float | None, Field(ge=1e-4, le=1e-2, json_schema_extra=LOG)] = None
    weight_decay: Annotated[float | None, Field(ge=1e-3, le=10, json_schema_extra=LOG)] = None
    weighting: Literal["none", "confidence"] = "none"
    order: Literal["mixed", "confident_first"] = "mixed"
    rounds: Annotated[int, Field(ge=0, le=3)] = 0
    folds: Annotated[int, Field(ge=2, le=5, json_schema_extra=_only(rounds=[1, 2, 3]))] = 2

    def head(self, default: HeadOptions, seed: int) -> HeadOptions:
        """The options of one training: None takes the task's default adaptation."""
        own = {"targets", "weighting", "order", "rounds", "folds"}
        chosen = self.model_dump(exclude=own, exclude_none=True)
        return HeadOptions(**{**default.model_dump(), **chosen, "seed": seed})


class PredictStage(Options):
    """student: the mean of `members` students on inner seeds; zero_shot: no student at all; blend:
    sigmoid(student log-odds + weight x zero-shot margin)."""

    # zero_shot switches everything else off, so it is drawn rarely
    kind: Annotated[PredictKind, Field(json_schema_extra={"odds": [8, 1, 3]})] = "student"
    members: Annotated[
        int, Field(ge=1, le=8, json_schema_extra=_only(kind=["student", "blend"]))
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
        """16 hex digits; recipes that differ only in options without effect are the same."""
        return content_hash(normal(self).model_dump())[:16]

    def describe(self) -> str:
        """One line; options at their default or without effect are left out."""
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


STAGES: dict[str, type[Options]] = {
    "label": LabelStage,
    "select": SelectStage,
    "train": TrainStage,
    "predict": PredictStage,
}


def recipe_from(value: Any) -> Recipe:
    """A recipe from parsed JSON; raises BadInput naming each wrong option."""
    if isinstance(value, Recipe):
        return value
    try:
        return Recipe.model_validate(value)
    except ValidationError as error:
        raise BadInput(explain("recipe", error)) from error


def recipe_from_json(text: str, where: str = "recipe") -> Recipe:
    """As `recipe_from`, of text that may be anybody's; BadInput also for what is not JSON."""
    return recipe_from(read_json(text.encode(errors="replace"), where))


def is_active(options: Options, name: str) -> bool:
    """Whether an option of a stage has any effect, given the stage's other options."""
    extra = type(options).model_fields[name].json_schema_extra
    when = extra.get("when", {}) if isinstance(extra, dict) else {}
    assert isinstance(when, dict)
    return all(getattr(options, other) in values for other, values in when.items())  # type: ignore[operator]


def normal(recipe: Recipe) -> Recipe:
    """The same method with every option that has no effect at its default."""
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


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
