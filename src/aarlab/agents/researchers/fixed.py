"""Runs named methods once each: the hand-tuned baselines and the guards of a campaign."""

from dataclasses import dataclass

from aarlab.agents.state import AarState, Trial
from aarlab.client.platform import PlatformClient


@dataclass(frozen=True, slots=True)
class Fixed:
    methods: tuple[str, ...]

    def propose(self, state: AarState, platform: PlatformClient) -> Trial | None:
        index = len(state.trials)
        if index >= len(self.methods):
            return None
        return Trial(index=index, method=self.methods[index], origin="chosen by hand")
