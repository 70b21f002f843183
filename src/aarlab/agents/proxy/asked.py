"""What an agent asked of a model: which interface, which model, the most it can cost, may it pass?

Covered: routes, verbs and models that are not allowed; tools that the vendor runs itself (search,
fetch, code execution, remote MCP servers) and addresses that it would open: each would be a network
for an agent that has none, and stored state whose cost cannot be seen in the request.
Not covered: what the model knows, or is told in words.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aarlab.agents.proxy.settings import Vendor
from aarlab.core.errors import BadInput, Forbidden, NotFound
from aarlab.core.foreign import read_json

Api = Literal["messages", "count", "chat", "responses"]

ROUTES: dict[str, tuple[Vendor, Api]] = {
    "/v1/messages": ("anthropic", "messages"),
    "/v1/messages/count_tokens": ("anthropic", "count"),
    "/v1/chat/completions": ("openai", "chat"),
    "/v1/responses": ("openai", "responses"),
}
_OUTPUT_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
DEFAULT_OUTPUT_TOKENS = 128_000  # without a limit: the longest answer of the models there are
MAX_OUTPUT_TOKENS = 1_000_000  # no model has more
BYTES_A_TOKEN = 2  # English has about four, digits and hexadecimal two
PRIORITY = 2.0  # times the price; `auto` at OpenAI is what the project's owner set
# Tools that run where the agent is: the vendor only writes their arguments.
_CLIENT_TOOLS = (
    "custom",
    "function",
    "namespace",
    "local_shell",
    "apply_patch",
    "bash_",
    "text_editor_",
    "memory_",
    "computer_",
    "tool_search_tool_",  # runs at the vendor, over the tools of the request alone
)
_SERVER_STATE = (
    "mcp_servers",
    "container",
    "web_search_options",
    "background",
    "previous_response_id",
    "conversation",
    "prompt",
)
# Other tiers have other prices than the table's.
_PRICED = {
    "service_tier": ("auto", "default", "standard_only", "flex"),
    "speed": ("standard",),
    "inference_geo": ("global",),
}
_ADDRESSES = ("url", "image_url", "file_url", "video_url")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that may pass. `body` is what is sent on."""

    vendor: Vendor
    api: Api
    model: str
    streams: bool
    body: bytes
    raw: dict[str, Any]

    @property
    def name(self) -> str:
        """The model as the price table and campaigns name it."""
        return f"{self.vendor}/{self.model}"

    @property
    def prompt_tokens(self) -> int:
        return (len(self.body) // BYTES_A_TOKEN + 1) * self.passes

    @property
    def passes(self) -> int:
        """Return how often the prompt is read. The vendor's own compaction reads it once more."""
        edits = self.raw.get("context_management")
        return 2 if "compact" in json.dumps(edits) else 1

    @property
    def one_hour(self) -> bool:
        """Return whether the request asks for cache entries that are kept longer and cost more."""
        return self.vendor == "anthropic" and _keeps_longer(self.raw)

    @property
    def dearer(self) -> float:
        """Return the highest multiple of the listed price that the service tier may cost."""
        unsure = self.vendor == "openai" and self.raw.get("service_tier") in (None, "auto")
        return PRIORITY if unsure else 1.0

    @property
    def output_tokens(self) -> int:
        """The most that the answer may have."""
        given = [self.raw[name] for name in _OUTPUT_LIMITS if type(self.raw.get(name)) is int]
        answers = self.raw["n"] if type(self.raw.get("n")) is int else 1
        limit = max(1, *given) if given else DEFAULT_OUTPUT_TOKENS
        return min(limit * max(answers, 1) * self.passes, MAX_OUTPUT_TOKENS)


def parse(verb: str, path: str, body: bytes, models: Sequence[str]) -> Asked:
    """Raises NotFound for a route, BadInput for a body, Forbidden for what may not pass."""
    if path not in ROUTES or verb != "POST":
        raise NotFound(f"{verb} {path} is no route here; there are POST {', '.join(ROUTES)}")
    vendor, api = ROUTES[path]
    raw = read_json(body, f"{path}: the body")
    if not isinstance(raw, dict) or not isinstance(raw.get("model"), str):
        raise BadInput(f"{path}: the body must be an object that names a `model`")
    asked = Asked(vendor, api, raw["model"], raw.get("stream") is True, body, raw)
    if asked.model not in models and asked.name not in models:
        raise Forbidden(f"model {asked.model!r} is not allowed; allowed: {', '.join(models)}")
    if reason := _reaches_out(raw):
        raise Forbidden(f"{reason} would give the agent a network or unseen cost; remove it")
    if api == "chat" and asked.streams:
        return _with_usage(asked)
    return asked


def _with_usage(asked: Asked) -> Asked:
    """OpenAI's chat streams tell their usage only where it is asked for."""
    options = asked.raw.get("stream_options")
    options = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    raw = {**asked.raw, "stream_options": options}
    return Asked(asked.vendor, asked.api, asked.model, asked.streams, json.dumps(raw).encode(), raw)


def _reaches_out(raw: dict[str, Any]) -> str | None:
    for name in _SERVER_STATE:
        if raw.get(name):
            return f"`{name}`"
    for name, allowed in _PRICED.items():
        if raw.get(name) is not None and raw[name] not in allowed:
            return f"`{name}` {str(raw[name])[:60]!r}, whose price is another,"
    tools = raw.get("tools") or []
    if not isinstance(tools, list):
        return "`tools` that is no list"
    for tool in tools:
        kind = tool.get("type", "custom") if isinstance(tool, dict) else "?"
        if not str(kind).startswith(_CLIENT_TOOLS):
            return f"the tool type {str(kind)[:60]!r}, which the vendor runs,"
    if _address(raw.get("messages")) or _address(raw.get("input")):
        return "an address (URL) for the vendor to open"
    return None


def _keeps_longer(value: Any) -> bool:
    """Return whether a `ttl` other than the usual five minutes occurs anywhere in `value`."""
    if isinstance(value, list):
        return any(map(_keeps_longer, value))
    if not isinstance(value, dict):
        return False
    return value.get("ttl", "5m") != "5m" or any(map(_keeps_longer, value.values()))


def _address(value: Any) -> bool:
    """Does a part of the conversation, not of a tool's arguments, name an address?"""
    return any(_opens(part.get(name)) for part in _parts(value, depth=0) for name in _ADDRESSES)


def _opens(value: Any) -> bool:
    found = value.get("url") if isinstance(value, dict) else value
    return isinstance(found, str) and "://" in found[:12]


def _parts(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    if depth > 8:
        return
    if isinstance(value, list):
        for item in value:
            yield from _parts(item, depth + 1)
    elif isinstance(value, dict):
        yield value
        for name in ("content", "output", "source", "image_url"):
            yield from _parts(value.get(name), depth + 1)
