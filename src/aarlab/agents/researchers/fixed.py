"""Runs named methods and recipes once each: hand-tuned baselines and guards of a campaign."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aarlab.agents.state import AarState, Trial
from aarlab.client.platform import PlatformClient


@dataclass(frozen=True, slots=True)
class Fixed:
    methods: tuple[str, ...]
    recipes: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def propose(self, state: AarState, platform: PlatformClient) -> Trial | None:
        index = len(state.trials)
        names = [*self.methods, *self.recipes]
        if index >= len(names):
            return None
        name = names[index]
        recipe = self.recipes.get(name)
        return Trial(index=index, method=name, origin="chosen by hand", recipe=recipe)
