"""Control researchers: a fixed list, random search and evolution.

The fixed one runs named methods and recipes once each on every task: hand-tuned baselines and
guards. Random search draws recipes at random, first inside its direction, then anywhere. Evolution
changes recipes by mutation and crossover, its own and the forum's.

Feedback is shaped, so the fitness of a method is known only when it became its AAR's best: those
are the parents. Another AAR's best, cited in a finding, is a parent like its own. With several
tasks the parents are those of one task, each task in its turn: PGRs of two tasks do not compare.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from aarlab.agents.directions import Pins, pins_of
from aarlab.agents.state import AarState, Trial
from aarlab.client.platform import PlatformClient
from aarlab.core.errors import BadInput, NotFound
from aarlab.core.wire import Finding
from aarlab.testbed.recipes.recipe import (
    Recipe,
    crossover,
    mutate,
    recipe_from,
    recipe_from_json,
    sample,
    with_options,
)


@dataclass(frozen=True, slots=True)
class Fixed:
    methods: tuple[str, ...]
    recipes: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    n_tasks: int = 1

    def propose(self, state: AarState, platform: PlatformClient) -> Trial | None:
        index = len(state.trials)
        names, done = [*self.methods, *self.recipes], index // self.n_tasks
        if done >= len(names):
            return None
        name = names[done]
        recipe = self.recipes.get(name)
        return Trial(index=index, method=name, origin="chosen by hand", recipe=recipe)


DIRECTED_SHARE = 0.5
ATTEMPTS = 50


@dataclass(frozen=True, slots=True)
class RandomSearch:
    """Random search in a direction.

    `max_trials` sets how long it stays inside its direction (the first half). Without `zero_shot`
    no recipe asks for log-likelihoods.
    """

    direction: str
    seed: int
    max_trials: int
    zero_shot: bool = True

    def propose(self, state: AarState, platform: PlatformClient) -> Trial | None:
        index = len(state.trials)
        rng = random.Random(f"{self.seed}-{index}")
        directed = index < self.max_trials * DIRECTED_SHARE
        pins = pins_of(self.direction, self.zero_shot) if directed else ({},)
        recipe = untried(state, rng, pins, self.zero_shot)
        origin = f"random draw inside '{self.direction}'" if directed else "random draw"
        return None if recipe is None else new_trial(index, recipe, origin)


def untried(
    state: AarState, rng: random.Random, pins: tuple[Pins, ...], zero_shot: bool
) -> Recipe | None:
    """Draw a recipe that this AAR has not tried; None when `ATTEMPTS` draws were all known."""
    known = tried_hashes(state)
    draws = (sample(rng, rng.choice(pins)) for _ in range(ATTEMPTS))
    return next((recipe for recipe in draws if is_new(recipe, known, zero_shot)), None)


def is_new(recipe: Recipe, known: set[str], zero_shot: bool) -> bool:
    """Return whether a recipe is untried and needs no log-likelihoods that may be missing."""
    return (zero_shot or not recipe.asks_zero_shot) and recipe.hash() not in known


def tried_hashes(state: AarState) -> set[str]:
    return {recipe_from(trial.recipe).hash() for trial in state.trials if trial.recipe}


def new_trial(index: int, recipe: Recipe, origin: str, parent: str | None = None) -> Trial:
    return Trial(
        index=index,
        method=recipe.describe(),
        origin=origin,
        recipe=recipe.model_dump(mode="json"),
        parent=parent,
    )


FOUNDERS = 3
CROSSOVER_SHARE = 0.4
BRED_SHARE = 0.4  # of the children that are not crossed: a parent with a pin of the direction
ELITE = 4


@dataclass(frozen=True, slots=True)
class Parent:
    """A recipe with a known shaped PGR; `source` is a snapshot, `who` its AAR."""

    recipe: Recipe
    pgr: float
    source: str
    who: str


@dataclass(frozen=True, slots=True)
class Evolutionary:
    """(mu + 1) search.

    Founders are the defaults with a pin of the direction. Then come children of the elite by
    crossover, by mutation, or by another pin of the direction on top of the parent's. Without
    `zero_shot` no recipe asks for log-likelihoods.
    """

    name: str
    direction: str
    seed: int
    tasks: tuple[str, ...] = ("",)
    zero_shot: bool = True

    def propose(self, state: AarState, platform: PlatformClient) -> Trial | None:
        index = len(state.trials)
        rng = random.Random(f"{self.seed}-{index}")
        generation = index // len(self.tasks)
        task = self.tasks[generation % len(self.tasks)]
        own = self._own(state, task)
        if generation < FOUNDERS or not own:
            recipe = self._founder(state, rng)
            origin = f"founder inside '{self.direction}'"
            return None if recipe is None else new_trial(index, recipe, origin)
        elite = sorted(own + self._foreign(platform, task), key=lambda p: -p.pgr)[:ELITE]
        return self._child(state, index, elite, rng)

    @property
    def _pins(self) -> tuple[Pins, ...]:
        return pins_of(self.direction, self.zero_shot)

    def _founder(self, state: AarState, rng: random.Random) -> Recipe | None:
        """Return each option of the direction on the defaults in turn, then their mutations."""
        known = tried_hashes(state)
        starts = [with_options(Recipe(), pins) for pins in self._pins]
        rng.shuffle(starts)
        mutated = (mutate(rng.choice(starts), rng) for _ in range(ATTEMPTS))
        return next((r for r in chain(starts, mutated) if is_new(r, known, self.zero_shot)), None)

    def _child(
        self, state: AarState, index: int, elite: list[Parent], rng: random.Random
    ) -> Trial | None:
        known = tried_hashes(state)
        for attempt in range(ATTEMPTS):
            one = elite[min(int(rng.expovariate(1.0)), len(elite) - 1)]
            other = rng.choice(elite)
            if rng.random() < CROSSOVER_SHARE and other is not one:
                child = mutate(crossover(one.recipe, other.recipe, rng), rng)
                origin = f"crossover of {_cite(one, self.name)} and {_cite(other, self.name)}"
            elif rng.random() < BRED_SHARE:
                child = with_options(one.recipe, rng.choice(self._pins))
                origin = f"mutation of {_cite(one, self.name)} inside '{self.direction}'"
            else:
                child = mutate(one.recipe, rng, n=rng.choice((1, 1, 2)) + attempt // 10)
                origin = f"mutation of {_cite(one, self.name)}"
            if is_new(child, known, self.zero_shot):
                return new_trial(index, child, origin, parent=one.source)
        return None

    def _own(self, state: AarState, task: str) -> list[Parent]:
        return [
            Parent(recipe_from(t.recipe), t.score.pgr, t.snapshot or "", self.name)
            for t in state.done
            if t.recipe and t.score is not None and t.score.improved and self._on(t.task, task)
        ]

    def _on(self, name: str | None, task: str) -> bool:
        """Return whether a score is one of the task; without a name only if there is one task."""
        return name == task or len(self.tasks) == 1

    def _foreign(self, platform: PlatformClient, task: str) -> list[Parent]:
        """Return recipes behind the others' findings; a post without a valid one is passed."""
        parents = []
        for finding in platform.findings():
            if finding.author == self.name or finding.score is None or not finding.score.improved:
                continue
            if not self._on(finding.task, task):
                continue
            recipe = _cited_recipe(finding, platform)
            if recipe is not None and finding.snapshot is not None:
                parents.append(Parent(recipe, finding.score.pgr, finding.snapshot, finding.author))
        return parents


def _cited_recipe(finding: Finding, platform: PlatformClient) -> Recipe | None:
    if finding.snapshot is None:
        return None
    try:
        text = platform.read_snapshot_file(finding.snapshot, "recipe.json")
        return recipe_from_json(text, f"recipe of {finding.snapshot}")
    except (BadInput, NotFound):
        return None


def _cite(parent: Parent, me: str) -> str:
    whose = "my" if parent.who == me else f"{parent.who}'s"
    return f"{whose} snapshot {parent.source[:8]}"
