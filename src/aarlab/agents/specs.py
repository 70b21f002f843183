"""What a campaign says about a language-model AAR, and about an agent of another maker."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from aarlab.core.wire_base import Strict

Workflow = Literal["free", "prescribed", "pool"]


class LanguageSpec(Strict):
    """Frozen into the campaign. `model` is a name of Inspect, e.g. `anthropic/claude-sonnet-4-5`.

    The key comes from the supervisor's environment and is never part of this. `context_tokens` is
    where the conversation is compacted, and where that does not help, a fresh session begins.
    """

    model: Annotated[str, Field(min_length=3, max_length=200)]
    model_args: dict[str, Any] = Field(default={})
    base_url: str | None = None
    workflow: Workflow = "free"
    idea_pool: list[str] = Field(default=[])
    forum: bool = True
    notes: bool = True
    context_tokens: Annotated[int, Field(ge=1_000)] = 150_000
    max_output_tokens: Annotated[int, Field(ge=1)] = 8_192
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    reasoning_effort: Literal["low", "medium", "high"] | None = None
    tool_timeout_s: Annotated[float, Field(gt=0)] = 600.0
    max_turns: Annotated[int, Field(ge=1)] = 100_000


class ExternalSpec(Strict):
    """An agent of another maker.

    `mcp`: an agent joins by itself with the AAR's token (`aarlab aar connect`). `claude-code`:
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
