"""The human baseline: the study's prior methods, tuned on the embedded tasks.

They were tuned by `aarlab testbed sweep`. Each file in `tuned/` says how its recipes were found and
what they scored honestly. Each method's own options were tuned (what it trains on and how), but
none that would make it another method. They were found on tasks of a known generator seed: a
campaign's private task is new to them.
"""

import json
from importlib.resources import files
from typing import Any

from pydantic import BaseModel, ConfigDict

from aarlab.testbed.recipes.recipe import Recipe


class Figure(BaseModel):
    """PGR with its 95 % interval."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    value: float
    low: float
    high: float


class Tuned(BaseModel):
    """A tuned recipe and its scores.

    `search_pgr` is the best of `trials` and flatters. `selection` was taken once, with fresh seeds
    and teachers, as was that of the method's defaults.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    recipe: Recipe
    options: list[str]
    trials: int
    trial_seeds: int
    search_pgr: float
    selection: Figure
    untuned_selection: Figure


class TunedTask(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    task: str
    generator_seed: int
    pair: str
    adaptation: str
    date: str
    sampler: str
    selection_seeds: int
    baselines: dict[str, Tuned]


def tuned_tasks() -> dict[str, TunedTask]:
    """Return the tuned baselines by task name."""
    folder = files("aarlab.testbed") / "tuned"
    texts = [path.read_text(encoding="utf-8") for path in folder.iterdir()]
    tasks = [TunedTask.model_validate_json(text) for text in texts]
    return {task.task: task for task in sorted(tasks, key=lambda task: task.task)}


def tuned_recipes(task: str) -> dict[str, dict[str, Any]]:
    """Return the recipes of a task's human baseline as a campaign's spec takes them.

    Empty where none was tuned.
    """
    found = tuned_tasks().get(task)
    if found is None:
        return {}
    return {f"tuned_{n}": json.loads(b.recipe.to_json()) for n, b in found.baselines.items()}
