"""`python -m aarlab.agents AAR.json`: one AAR, from its config to the end of its budget."""

import logging
import sys
from pathlib import Path

from pydantic import ValidationError

from aarlab.agents.config import AarConfig
from aarlab.agents.platform_link import beating, connect
from aarlab.client.platform import PlatformClient
from aarlab.core.errors import AarlabError, BadInput
from aarlab.core.logs import log_to_stderr

LOG = logging.getLogger("aarlab.agents")
PLATFORM_DEADLINE_S = 300.0
SETTINGS = 78  # sysexits EX_CONFIG: the same process would end the same way


def main(argv: list[str]) -> int:
    log_to_stderr("INFO")
    logging.getLogger("httpx").setLevel("WARNING")  # a line a request, for days
    try:
        config = AarConfig.model_validate_json(Path(argv[0]).read_bytes())
        why = live(config)
    except (AarlabError, ValidationError, OSError) as error:
        LOG.exception("the AAR stopped")
        return SETTINGS if getattr(error, "code", "") == "model_settings" else 1
    LOG.info("finished: %s", why)
    return 0


def live(config: AarConfig) -> str:
    """Why it ended. Each kind of AAR loads its own libraries and no other's."""
    if config.researcher == "language":
        from aarlab.agents.language.run import run_language

        return run_language(config, lambda: _connect(config)).why
    if config.researcher == "external":
        from aarlab.agents.external.run import run_external

        return run_external(config, lambda: _connect(config)).why
    if config.researcher in ("random", "evolutionary", "fixed"):
        from aarlab.agents.control import run_control

        with _connect(config) as platform, beating(lambda: _connect(config)):
            return run_control(config, platform).why
    raise BadInput(
        f"no researcher {config.researcher!r}; there are language, external, random, evolutionary, "
        "fixed"
    )


def _connect(config: AarConfig) -> PlatformClient:
    return connect(config, PLATFORM_DEADLINE_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
