"""Control researcher: evolves recipes by mutation and crossover, its own and the forum's.

Feedback is shaped, so the fitness of a method is known only when it became its AAR's best: those
are the parents. Another AAR's best, cited in a finding, is a parent like its own. With several
tasks the parents are those of one task, each task in its turn: PGRs of two tasks do not compare.
"""

import random
from dataclasses import dataclass
from itertools import chain

from aarlab.agents.directions import pins_of
from aarlab.agents.researchers.random_search import ATTEMPTS, new_trial, tried_hashes
from aarlab.agents.state import AarState, Trial
from aarlab.client.platform import PlatformClient
from aarlab.core.errors import BadInput, NotFound
from aarlab.core.wire import Finding
from aarlab.testbed.recipe import Recipe, recipe_from, recipe_from_json
from aarlab.testbed.space import crossover, mutate, with_options

FOUNDERS = 3
CROSSOVER_SHARE = 0.4
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
    """(mu + 1) search: founders are the defaults with an option of the direction, then children
    of the elite by mutation or crossover."""

    name: str
    direction: str
    seed: int
    tasks: tuple[str, ...] = ("",)

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

    def _founder(self, state: AarState, rng: random.Random) -> Recipe | None:
        """One option of the direction on the defaults, each in turn; then mutations of those."""
        known = tried_hashes(state)
        starts = [with_options(Recipe(), pins) for pins in pins_of(self.direction)]
        rng.shuffle(starts)
        mutated = (mutate(rng.choice(starts), rng) for _ in range(ATTEMPTS))
        return next((r for r in chain(starts, mutated) if r.hash() not in known), None)

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
            else:
                child = mutate(one.recipe, rng, n=rng.choice((1, 1, 2)) + attempt // 10)
                origin = f"mutation of {_cite(one, self.name)}"
            if child.hash() not in known:
                return new_trial(index, child, origin, parent=one.source)
        return None

    def _own(self, state: AarState, task: str) -> list[Parent]:
        return [
            Parent(recipe_from(t.recipe), t.score.pgr, t.snapshot or "", self.name)
            for t in state.done
            if t.recipe and t.score is not None and t.score.improved and self._on(t.task, task)
        ]

    def _on(self, name: str | None, task: str) -> bool:
        """Whether a score is one of the task; one without a name is where there is one task."""
        return name == task or len(self.tasks) == 1

    def _foreign(self, platform: PlatformClient, task: str) -> list[Parent]:
        """Recipes behind the others' findings; a post with none, or a broken one, is passed."""
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
