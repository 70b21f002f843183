"""Puts one control researcher together from its config."""

import sys

from aarlab.agents.config import AarConfig
from aarlab.agents.loop import Aar, Researcher, research
from aarlab.agents.researchers.evolutionary import Evolutionary
from aarlab.agents.researchers.fixed import Fixed
from aarlab.agents.researchers.random_search import RandomSearch
from aarlab.agents.state import AarState
from aarlab.agents.trial import TrialRunner
from aarlab.client.platform import PlatformClient
from aarlab.core.errors import BadInput


def run_control(config: AarConfig, platform: PlatformClient) -> AarState:
    """From the start or from where it was, to its end."""
    runner = TrialRunner(config, sys.executable)
    return research(Aar(config, platform, researcher_of(config), runner))


def researcher_of(config: AarConfig) -> Researcher:
    """Raises BadInput naming the researchers there are."""
    if config.researcher == "random":
        return RandomSearch(config.direction, config.seed, config.max_trials)
    if config.researcher == "evolutionary":
        return Evolutionary(config.name, config.direction, config.seed, tuple(config.tasks))
    if config.researcher == "fixed":
        named = (*config.methods, *config.own)
        return Fixed(named, config.recipes, len(config.tasks))
    raise BadInput(f"no researcher {config.researcher!r}; there are random, evolutionary, fixed")
