"""`python -m aarlab.agents AAR.json`: one AAR, from its config to the end of its budget."""

import logging
import sys
from pathlib import Path

from pydantic import ValidationError

from aarlab.agents.config import AarConfig
from aarlab.agents.loop import Aar, Researcher, research
from aarlab.agents.researchers.evolutionary import Evolutionary
from aarlab.agents.researchers.fixed import Fixed
from aarlab.agents.researchers.random_search import RandomSearch
from aarlab.agents.trial import TrialRunner
from aarlab.client.platform import PlatformClient
from aarlab.core.errors import AarlabError, BadInput
from aarlab.testbed.task import load_info

LOG = logging.getLogger("aarlab.agents")
PLATFORM_DEADLINE_S = 300.0


def researcher_of(config: AarConfig) -> Researcher:
    """Raises BadInput naming the researchers there are."""
    if config.researcher == "random":
        return RandomSearch(config.direction, config.seed, config.max_trials)
    if config.researcher == "evolutionary":
        return Evolutionary(config.name, config.direction, config.seed)
    if config.researcher == "fixed":
        return Fixed(tuple(config.methods), config.recipes)
    raise BadInput(f"no researcher {config.researcher!r}; there are random, evolutionary, fixed")


def main(argv: list[str]) -> int:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level="INFO")
    try:
        config = AarConfig.model_validate_json(Path(argv[0]).read_bytes())
        seeds = tuple(load_info(config.public_task).teacher_seeds)
        token = config.token_file.read_text().strip()
        with PlatformClient.over_socket(config.socket, token, PLATFORM_DEADLINE_S) as platform:
            runner = TrialRunner(config, seeds, sys.executable)
            state = research(Aar(config, platform, researcher_of(config), runner))
    except (AarlabError, ValidationError, OSError):
        LOG.exception("the AAR stopped")
        return 1
    LOG.info("finished: %s", state.why)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
