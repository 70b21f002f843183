"""The supervisor of an external AAR: it lives as long as the budget, and the operator, let it."""

import time
from collections.abc import Callable

from aarlab.agents.config import AarConfig
from aarlab.agents.state import AarState, load_state, save_state
from aarlab.client.platform import PlatformClient
from aarlab.core.errors import BadInput
from aarlab.core.wire import Me

POLL_S = 2.0
STOPPED = "the operator stopped it"


def run_external(config: AarConfig, connect: Callable[[], PlatformClient]) -> AarState:
    """From the start or from where it was, to its end."""
    state = load_state(config.state)
    if state.finished:
        return state
    if config.external is None:
        raise BadInput(f"{config.name}: no `external` in its config")
    with connect() as platform:
        platform.open_session()
        if config.external.agent == "claude-code":
            from aarlab.agents.external.claude_code import ClaudeCode

            why = ClaudeCode(config, config.external, platform, connect).run()
        else:
            why = waited_out(platform)
    state = state.ended(why)
    save_state(config.state, state)
    return state


def waited_out(platform: PlatformClient, poll_s: float = POLL_S) -> str:
    """An agent that joined by itself is held to its limits by the platform: wait for their end."""
    while (why := end_of(platform.me())) is None:
        time.sleep(poll_s)
    return why


def end_of(me: Me) -> str | None:
    """Why the AAR must end now."""
    if me.wanted == "stop":
        return STOPPED
    return me.exhausted or None
