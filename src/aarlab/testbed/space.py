"""The declared grammar of recipes, and how to draw, change and cross them. Loads no numpy, no
torch.

Every function returns a recipe in normal form (options without effect at their default), so that
equal methods are equal recipes.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Literal, get_args

from annotated_types import Ge, Le
from pydantic.fields import FieldInfo

from aarlab.core.errors import BadInput
from aarlab.testbed.recipe import STAGES, Recipe, is_active, normal, recipe_from

OptionKind = Literal["choice", "int", "float"]
Fixed = Mapping[str, Any]
ATTEMPTS = 200


@dataclass(frozen=True, slots=True)
class OptionSpec:
    """One option, addressed as `stage.name`.

    `choices` for kind choice (booleans too), drawn with `odds` where given, else the closed range
    `low`..`high`, on a log scale where `log`. `when` maps other options of the stage to the values
    under which this one has an effect.
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
        """A value inside the range, rounded to 3 significant digits."""
        if self.kind == "choice":
            return rng.choices(self.choices, self.odds or None)[0]
        if self.kind == "int":
            return rng.randint(int(self.low), int(self.high))
        if self.log:
            return self._rounded(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return self._rounded(rng.uniform(self.low, self.high))

    def near(self, value: Any, rng: random.Random) -> Any:
        """A neighbouring value: another choice, or a step of about a sixth of the range.

        The neighbour of None (the task's default) is any value.
        """
        if value is None:
            return self.draw(rng)
        if self.kind == "choice":
            drawn = [self.draw(rng) for _ in range(16)]
            return next((choice for choice in drawn if choice != value), value)
        if self.kind == "int":
            step = max(1, round(abs(rng.gauss(0, (self.high - self.low) / 6))))
            return int(min(max(value + rng.choice((-step, step)), self.low), self.high))
        if self.log:
            spread = math.log(self.high / self.low) / 6
            return self._rounded(value * math.exp(rng.gauss(0, spread)))
        return self._rounded(value + rng.gauss(0, (self.high - self.low) / 6))

    def _rounded(self, value: float) -> float:
        return min(max(float(f"{value:.3g}"), self.low), self.high)


@cache
def space() -> Mapping[str, OptionSpec]:
    """The whole grammar, by path (`train.lr`), in stage order."""
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
    """Each stage from one parent; the train stage option by option, since its options are
    separate."""
    stages: dict[str, Any] = {
        stage: getattr(rng.choice((one, other)), stage).model_dump() for stage in STAGES
    }
    stages["train"] = {
        name: getattr(rng.choice((one, other)).train, name) for name in STAGES["train"].model_fields
    }
    return normal(recipe_from(stages))


def with_options(recipe: Recipe, values: Fixed) -> Recipe:
    """The recipe with options replaced by path; raises BadInput on an unknown path or bad value."""
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
    raw = field.json_schema_extra
    extra: dict[str, Any] = dict(raw) if isinstance(raw, dict) else {}
    when = tuple((key, tuple(values)) for key, values in extra.get("when", {}).items())
    common: dict[str, Any] = {"stage": stage, "name": name, "default": field.default, "when": when}
    parts = get_args(field.annotation) or (field.annotation,)
    types = [part for part in parts if part is not type(None)]
    if types == [bool] or types[0] not in (int, float):
        choices = (False, True) if types == [bool] else _literals(types)
        odds = tuple(extra.get("odds", ()))
        return OptionSpec(kind="choice", choices=choices, odds=odds, **common)
    low = next(float(str(item.ge)) for item in field.metadata if isinstance(item, Ge))
    high = next(float(str(item.le)) for item in field.metadata if isinstance(item, Le))
    kind: OptionKind = "int" if types == [int] else "float"
    return OptionSpec(kind=kind, low=low, high=high, log=bool(extra.get("log")), **common)


def _literals(types: list[Any]) -> tuple[Any, ...]:
    """Values of `Literal[...]` or of `Literal[...] | None`."""
    return tuple(value for kind in types for value in (get_args(kind) or (kind,)))
