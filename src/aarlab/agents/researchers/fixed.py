"""Runs named methods and recipes once each on every task: hand-tuned baselines and guards."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aarlab.agents.state import AarState, Trial
from aarlab.client.platform import PlatformClient


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
