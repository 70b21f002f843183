"""Control researcher: draws recipes at random, first inside its direction, then anywhere."""

import random
from dataclasses import dataclass

from aarlab.agents.directions import Pins, pins_of
from aarlab.agents.state import AarState, Trial
from aarlab.client.platform import PlatformClient
from aarlab.testbed.recipe import Recipe, recipe_from
from aarlab.testbed.space import sample

DIRECTED_SHARE = 0.5
ATTEMPTS = 50


@dataclass(frozen=True, slots=True)
class RandomSearch:
    """`max_trials` sets how long it stays inside its direction (the first half)."""

    direction: str
    seed: int
    max_trials: int

    def propose(self, state: AarState, platform: PlatformClient) -> Trial | None:
        index = len(state.trials)
        rng = random.Random(f"{self.seed}-{index}")
        directed = index < self.max_trials * DIRECTED_SHARE
        recipe = untried(state, rng, pins_of(self.direction) if directed else ({},))
        origin = f"random draw inside '{self.direction}'" if directed else "random draw"
        return None if recipe is None else new_trial(index, recipe, origin)


def untried(state: AarState, rng: random.Random, pins: tuple[Pins, ...]) -> Recipe | None:
    """A draw that this AAR has not tried; None when `ATTEMPTS` draws were all known."""
    known = tried_hashes(state)
    draws = (sample(rng, rng.choice(pins)) for _ in range(ATTEMPTS))
    return next((recipe for recipe in draws if recipe.hash() not in known), None)


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
