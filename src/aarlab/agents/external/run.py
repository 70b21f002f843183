"""The supervisor of an external AAR in our sandbox: from the start, or from where it was."""

from collections.abc import Callable

from aarlab.agents.config import AarConfig
from aarlab.agents.external.claude_code import ClaudeCode
from aarlab.agents.platform_link import beating
from aarlab.agents.state import AarState, load_state, save_state
from aarlab.client.platform import PlatformClient
from aarlab.core.errors import BadInput


def run_external(config: AarConfig, connect: Callable[[], PlatformClient]) -> AarState:
    """To its end; raises what keeps it from going on."""
    state = load_state(config.state)
    if state.finished:
        return state
    if config.external is None or config.external.agent != "claude-code":
        raise BadInput(f"{config.name} joins by itself: it has no process here")
    with connect() as platform:
        platform.open_session()
        with beating(connect):
            why = ClaudeCode(config, config.external, platform, connect).run()
    state = state.ended(why)
    save_state(config.state, state)
    return state
