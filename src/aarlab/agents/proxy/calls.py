"""Requests of an agent to a model, and the tokens in the vendor's answers.

A request names an interface and a model. It is checked for the most it can cost and whether it may
pass. Tokens by kind are read from a vendor's answer as it streams through.

Covered: routes, verbs and models that are not allowed. Tools that the vendor runs itself (search,
fetch, code execution, remote MCP servers) and addresses that it would open: each would be a network
for an agent that has none. Stored state whose cost cannot be seen in the request.
Not covered: what the model knows, or reads in words.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
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
        """Return the model as the price table and campaigns name it."""
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
        """Return the most output tokens that the answer may have."""
        given = [self.raw[name] for name in _OUTPUT_LIMITS if type(self.raw.get(name)) is int]
        answers = self.raw["n"] if type(self.raw.get("n")) is int else 1
        limit = max(1, *given) if given else DEFAULT_OUTPUT_TOKENS
        return min(limit * max(answers, 1) * self.passes, MAX_OUTPUT_TOKENS)


def parse(verb: str, path: str, body: bytes, models: Sequence[str]) -> Asked:
    """Parse a request.

    Raises NotFound for a route, BadInput for a body, Forbidden for what may not pass.
    """
    if path not in ROUTES or verb != "POST":
        raise NotFound(f"{verb} {path} is not a route here; there are POST {', '.join(ROUTES)}")
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
    """Ask for the usage, which OpenAI's chat streams report only on request."""
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
        return "`tools` that is not a list"
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
    """Return whether a part of the conversation, not of a tool's arguments, names an address."""
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


_WRITTEN = "cache_creation_input_tokens"
MAX_KEPT = 64 * 2**20
KINDS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


@dataclass
class Meter:
    """A meter of tokens: `take` each piece in order, `end`, then `tokens`.

    The tokens are None where the answer gave no usage.
    """

    api: Api
    streams: bool
    _usage: dict[str, Any] = field(default_factory=dict)
    _rest: bytearray = field(default_factory=bytearray)
    _complete: bool = False
    _tier: str = ""

    def take(self, piece: bytes) -> None:
        if len(self._rest) + len(piece) > MAX_KEPT:
            self._rest.clear()  # no answer of a model is that long: it has no usage then
            return
        self._rest += piece
        if self.streams:
            *lines, rest = bytes(self._rest).split(b"\n")
            self._rest = bytearray(rest)
            for line in lines:
                if line.startswith(b"data:"):
                    self._event(line[5:])

    def end(self) -> None:
        if not self.streams:
            self._event(bytes(self._rest))
            self._complete = bool(self._usage)
        self._rest.clear()

    @property
    def tokens(self) -> dict[str, int] | None:
        """Return tokens by kind, not overlapping; None unless the answer came to its end."""
        if not self._complete:
            return None
        return _anthropic(self._usage) if self.api == "messages" else _openai(self._usage)

    @property
    def one_hour_tokens(self) -> int | None:
        """Return the cache-write tokens kept for an hour, or None where the answer does not say."""
        split = self._usage.get("cache_creation")
        if not isinstance(split, dict):
            return None
        written = sum(_count(one, _WRITTEN) for one in _passes(self._usage))
        return min(_count(split, "ephemeral_1h_input_tokens"), written)

    @property
    def dearer(self) -> float:
        """Return the multiple of the listed price for the tier in which the call was answered."""
        return PRIORITY if self.api != "messages" and self._tier == "priority" else 1.0

    def _event(self, text: bytes) -> None:
        try:
            event = json.loads(text)
        except (ValueError, RecursionError):
            return
        if not isinstance(event, dict):
            return
        inner = event.get("message") or event.get("response") or event
        told = inner.get("usage") if isinstance(inner, dict) else None
        if isinstance(inner, dict) and isinstance(inner.get("service_tier"), str):
            self._tier = inner["service_tier"]
        if isinstance(told, dict):
            # Anthropic's last event repeats only what has grown.
            self._usage |= {name: value for name, value in told.items() if value is not None}
            self._complete = event.get("type") != "message_start"


def _anthropic(usage: dict[str, Any]) -> dict[str, int]:
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens", _WRITTEN)
    totals = (sum(_count(one, name) for one in _passes(usage)) for name in names)
    return dict(zip(KINDS, totals, strict=True))


def _passes(usage: dict[str, Any]) -> list[dict[str, Any]]:
    """List the usages that are billed.

    For a call that the vendor compacted these are its passes, which the totals leave out. Otherwise
    they are the totals. An attempt that another model took over is not billed.
    """
    found = usage.get("iterations")
    passes = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    taken_over = any(one.get("type") == "fallback_message" for one in passes)
    return passes if passes and not taken_over else [usage]


def _openai(usage: dict[str, Any]) -> dict[str, int]:
    prompt = _count(usage, "prompt_tokens") or _count(usage, "input_tokens")
    output = _count(usage, "completion_tokens") or _count(usage, "output_tokens")
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    cached = min(prompt, _count(details, "cached_tokens"))
    return dict(zip(KINDS, (prompt - cached, output, cached, 0), strict=True))


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and value >= 0 else 0
