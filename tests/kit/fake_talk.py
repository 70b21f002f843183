"""What a fake model reads and answers, the same for both vendors' interfaces."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Api = Literal["messages", "chat", "responses"]
FaultKind = Literal[
    "rate_limit",
    "overloaded",
    "server_error",
    "cut",
    "bad_json",
    "bad_arguments",
    "unknown_tool",
    "refusal",
    "slow",
    "refused",
    "window",
]
NOT_PAID: tuple[FaultKind, ...] = (
    "rate_limit",
    "overloaded",
    "server_error",
    "refused",
    "window",
)


@dataclass(frozen=True)
class Call:
    """A tool call; without an `id` the server gives one, the same for the same request."""

    name: str
    arguments: dict[str, Any]
    id: str = ""


@dataclass(frozen=True)
class Turn:
    """One message: text, calls of tools (assistant), or results of calls by call id."""

    role: str
    text: str = ""
    calls: tuple[Call, ...] = ()
    results: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Conversation:
    """A request, free of its vendor's shape. `turns` has no system message."""

    api: Api
    model: str
    system: str
    turns: tuple[Turn, ...]
    tools: tuple[str, ...]

    @property
    def answered(self) -> int:
        """Turns that the model took so far."""
        return sum(turn.role == "assistant" for turn in self.turns)

    @property
    def last_results(self) -> str:
        """Text of all tool results since the model's last turn."""
        return "\n".join(self.last_turn_results().values())

    def last_turn_results(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for turn in reversed(self.turns):
            if turn.role == "assistant":
                break
            found = {**turn.results, **found}
        return found


@dataclass(frozen=True)
class Reply:
    """What the model says. Without calls the turn ends; `refused` is the vendors' refusal."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    refused: bool = False


Answer = Callable[[Conversation], Reply]


@dataclass(frozen=True)
class Fault:
    """Happens at the requests with these numbers (from 1, in order of arrival, retries count), and
    at every `every`th. `wait_s` is what a slow answer waits and what `retry-after` says.

    `where` restricts it to requests whose body has this text. `refused` answers with `status`, the
    error type (and, at OpenAI, code) `name` and `message`. `window` refuses, in the vendor's words
    where there is no `message`, requests of more than `tokens`.
    """

    kind: FaultKind
    at: tuple[int, ...] = ()
    every: int = 0
    wait_s: float = 1.0
    where: str = ""
    status: int = 400
    name: str = "invalid_request_error"
    message: str = ""
    tokens: int = 0

    def hits(self, number: int, body: str) -> bool:
        due = number in self.at or bool(self.every and number % self.every == 0)
        return due and self.where in body


@dataclass(frozen=True)
class Usage:
    """Tokens by kind, not overlapping."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    one_hour: int = 0  # of the writes

    @property
    def prompt(self) -> int:
        return self.input + self.cache_read + self.cache_write


def canonical(api: Api, body: dict[str, Any]) -> str:
    """What the model reads; how it is delivered (stream, metadata) does not count."""
    told = {k: v for k, v in body.items() if k not in ("stream", "stream_options", "metadata")}
    return json.dumps([api, told], sort_keys=True)


def content_hash(api: Api, body: dict[str, Any]) -> str:
    return hashlib.sha256(canonical(api, body).encode()).hexdigest()[:24]


def usage_of(api: Api, body: dict[str, Any], reply: Reply) -> Usage:
    """A function of request and answer. Half of the prompt counts as read from the cache where the
    request asks for one (OpenAI's interfaces always do), and with Anthropic a quarter as written.
    """
    text = canonical(api, body)
    prompt = len(text) // 4 + 1
    said = len(reply.text) + sum(len(c.name) + len(json.dumps(c.arguments)) for c in reply.calls)
    caches = api != "messages" or '"cache_control"' in text
    read = prompt // 2 if caches else 0
    written = prompt // 4 if caches and api == "messages" else 0
    one_hour = written if '"ttl": "1h"' in text else 0
    return Usage(prompt - read - written, said // 4 + 1, read, written, one_hour)
