"""Environment settings of the command: where tasks and models are, and which keys are set."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aarlab.core.layout import DataRoot

# Keys beyond those of `agents.providers`: Claude Code's own, and that of a local vLLM server.
OTHER_KEYS = ("CLAUDE_CODE_OAUTH_TOKEN", "VLLM_API_KEY")


def data_root() -> "DataRoot":
    """Return the data root that AARLAB_HOME names; raises BadInput if the setting is invalid."""
    from aarlab.testbed.settings import load_settings

    return load_settings().root


def key_names() -> list[str]:
    """Return the names of the model API keys that are set, sorted; never a value."""
    from aarlab.agents.providers import PROVIDERS
    from aarlab.agents.settings import any_set

    known = {key for provider in PROVIDERS.values() for key in provider.keys}
    return [name for name in sorted({*known, *OTHER_KEYS}) if any_set([name])]
