"""What a campaign says about an AAR that is another maker's agent."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from aarlab.core.wire_base import Strict


class ExternalSpec(Strict):
    """`mcp`: an agent joins by itself with the AAR's token (`aarlab aar connect`). `claude-code`:
    Claude Code runs in the AAR's sandbox and reaches `model` through the proxy.

    `max_runs` ends an agent that says again and again that it is done.
    """

    agent: Literal["mcp", "claude-code"] = "mcp"
    model: Annotated[str, Field(pattern=r"^anthropic/.+", max_length=200)] | None = None
    max_runs: Annotated[int, Field(ge=1)] = 1_000
    run_s: Annotated[float, Field(gt=0)] = 6 * 3600.0
    memory_mb: Annotated[int, Field(ge=1024)] = 8_192
    processes: Annotated[int, Field(ge=32)] = 512

    @model_validator(mode="after")
    def _claude_code_names_its_model(self) -> "ExternalSpec":
        if (self.agent == "claude-code") != (self.model is not None):
            raise ValueError("agent `claude-code` needs a `model`, and no other agent has one")
        return self
