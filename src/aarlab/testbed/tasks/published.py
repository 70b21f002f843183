"""Published settings as one declaration each: pair, teacher, students, seeds."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aarlab.core.errors import NotFound
from aarlab.core.pgr import Reported
from aarlab.testbed.models.catalogue import Pair
from aarlab.testbed.recipes.recipe import Recipe, SelectStage, TrainStage
from aarlab.testbed.students.options import (
    AdapterOptions,
    HeadOptions,
    TeacherOptions,
    published_adapter,
)
from aarlab.testbed.tasks.options import BuildOptions

FIGURES = Path(__file__).with_name("published_figures.json")


@dataclass(frozen=True, slots=True)
class Setting:
    """A weak model fine-tuned on truth teaches a strong one; both are trained alike."""

    name: str
    title: str
    pair: str
    adapter: AdapterOptions
    training: HeadOptions
    first_seed: int
    seeds: int
    recipes: Mapping[str, Recipe]
    """Methods as published, where the built-in one of that name differs."""
    methods: tuple[str, ...]

    def build_options(self, pair: Pair, baseline_seeds: int) -> BuildOptions:
        """Return options with teachers and ceilings of `baseline_seeds` seeds.

        The first teachers label for methods, as many fresh ones for verification.
        """
        teacher = TeacherOptions(head=self.training, calibrate=False, adapter=self.adapter)
        return BuildOptions(
            pair=pair.name,
            weak_layer=pair.weak.layer,
            strong_layer=pair.strong.layer,
            teacher=teacher,
            student=self.training,
            adapter=self.adapter,
            n_public=min(self.seeds, baseline_seeds),
            n_fresh=min(self.seeds, baseline_seeds),
            n_weak=baseline_seeds,
            ceiling_seeds=baseline_seeds,
            seed=self.first_seed,
            certify=True,
            teacher_row_ceiling=False,
            require_gap=False,
        )


def qwen_paper() -> Setting:
    """Return the study's setting: Qwen1.5-0.5B-Chat -> Qwen3-4B-Base.

    LoRA r = 32 and alpha 32 on every block, lr 1e-4, 5 epochs, batch 32, linear schedule, seeds
    42-46, up to 8,192 tokens.
    """
    adapter, training = published_adapter()
    threshold = SelectStage(kind="threshold", threshold=0.75)
    confident = Recipe(select=threshold, train=TrainStage(targets="hard"))
    methods = ("vanilla", "confident", "ue_zero_shot")
    return Setting(
        name="qwen-paper",
        title="Qwen1.5-0.5B-Chat -> Qwen3-4B-Base as published",
        pair="qwen-paper",
        adapter=adapter,
        training=training,
        first_seed=42,
        seeds=5,
        recipes={"confident": confident},
        methods=methods,
    )


SETTINGS: dict[str, Callable[[], Setting]] = {"qwen-paper": qwen_paper}


def setting(name: str, epochs: int | None = None) -> Setting:
    """Return a published setting by name; `epochs` shortens a trial.

    Raises NotFound naming the settings there are.
    """
    if name not in SETTINGS:
        raise NotFound(f"no preset {name!r}; there are: {', '.join(SETTINGS)}")
    made = SETTINGS[name]()
    if epochs is None:
        return made
    return replace(made, training=made.training.model_copy(update={"epochs": epochs}))


def task_name(data: Path, made: Setting, pair: str = "") -> str:
    """Return the name of the task that a folder becomes in a setting, such as chat-qwen-paper."""
    return f"{data.name.lower()}-{pair or made.name}".replace("_", "-")


@dataclass(frozen=True, slots=True)
class PublishedMethod:
    """A method's published figures over its seeds."""

    pgr: Reported
    accuracy: Reported


@dataclass(frozen=True, slots=True)
class Published:
    """Published figures of one data set.

    `left_out` says why there is no figure of a method that was published.
    """

    name: str
    source: str
    train_rows: int
    test_rows: int
    weak: Reported
    ceiling: Reported
    methods: Mapping[str, PublishedMethod]
    left_out: Mapping[str, str]


def published(name: str) -> Published | None:
    """Return the published figures of a data set (chat, math, code), None for any other."""
    known = json.loads(FIGURES.read_text(encoding="utf-8"))
    if name not in known["tasks"]:
        return None
    task, n_seeds = known["tasks"][name], known["method_seeds"]
    n_baseline = known["baseline_seeds"]
    weak, ceiling = (
        Reported(task[arm][0], task[arm][1], n_baseline) for arm in ("weak", "ceiling")
    )

    def figures(found: Mapping[str, Any]) -> PublishedMethod:
        pgr = Reported(found["pgr"][0], found["pgr"][1], n_seeds)
        # Baselines were fixed, so an accuracy varies over seeds as its PGR does, times the gap.
        sd = pgr.sd * (ceiling.value - weak.value)
        return PublishedMethod(pgr, Reported(found["accuracy"], sd, n_seeds))

    return Published(
        name=name,
        source=known["source"],
        train_rows=task["train_rows"],
        test_rows=task["test_rows"],
        weak=weak,
        ceiling=ceiling,
        methods={method: figures(one) for method, one in task["methods"].items()},
        left_out=task["left_out"],
    )
