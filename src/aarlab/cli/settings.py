"""Environment settings of the command: where tasks and models are, and which keys are set."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aarlab.core.layout import DataRoot

# The variables in which Inspect's providers look for their keys.
MODEL_KEYS = (
    "ANTHROPIC_API_KEY", "AZUREAI_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN", "CLOUDFLARE_API_TOKEN",
    "DEEPSEEK_API_KEY", "FIREWORKS_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "GROK_API_KEY",
    "GROQ_API_KEY", "HF_TOKEN", "MISTRAL_API_KEY", "OPENAI_API_KEY", "OPENROUTER_API_KEY",
    "PERPLEXITY_API_KEY", "TOGETHER_API_KEY", "VLLM_API_KEY", "XAI_API_KEY",
)  # fmt: skip


def data_root() -> "DataRoot":
    """Return the data root that AARLAB_HOME names; raises BadInput if the setting is invalid."""
    from aarlab.testbed.settings import load_settings

    return load_settings().root


def key_names() -> list[str]:
    """List the names, never the values, of the model API keys that are set."""
    return [name for name in MODEL_KEYS if os.environ.get(name)]
