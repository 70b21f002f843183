"""Tokens by kind, read from a vendor's answer as it streams through."""

import json
from dataclasses import dataclass, field
from typing import Any

from aarlab.agents.proxy.asked import Api

MAX_KEPT = 64 * 2**20
KINDS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


@dataclass
class Meter:
    """`take` each piece in order, `end`, then `tokens`: None where the answer told no usage."""

    api: Api
    streams: bool
    _usage: dict[str, Any] = field(default_factory=dict)
    _rest: bytearray = field(default_factory=bytearray)
    _complete: bool = False

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
        """Tokens by kind, not overlapping; None unless the answer came to its end."""
        if not self._complete:
            return None
        return _anthropic(self._usage) if self.api == "messages" else _openai(self._usage)

    def _event(self, text: bytes) -> None:
        try:
            event = json.loads(text)
        except (ValueError, RecursionError):
            return
        if not isinstance(event, dict):
            return
        inner = event.get("message") or event.get("response") or event
        told = inner.get("usage") if isinstance(inner, dict) else None
        if isinstance(told, dict):
            # Anthropic's last event repeats only what has grown.
            self._usage |= {name: value for name, value in told.items() if value is not None}
            self._complete = event.get("type") != "message_start"


def _anthropic(usage: dict[str, Any]) -> dict[str, int]:
    names = (
        "input_tokens",
        "output_tokens",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
    )
    return dict(zip(KINDS, (_count(usage, name) for name in names), strict=True))


def _openai(usage: dict[str, Any]) -> dict[str, int]:
    prompt = _count(usage, "prompt_tokens") or _count(usage, "input_tokens")
    output = _count(usage, "completion_tokens") or _count(usage, "output_tokens")
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    cached = min(prompt, _count(details, "cached_tokens"))
    return dict(zip(KINDS, (prompt - cached, output, cached, 0), strict=True))


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and value >= 0 else 0
