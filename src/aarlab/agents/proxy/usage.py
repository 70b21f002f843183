"""Tokens by kind, read from a vendor's answer as it streams through."""

import json
from dataclasses import dataclass, field
from typing import Any

from aarlab.agents.proxy.asked import PRIORITY, Api

_WRITTEN = "cache_creation_input_tokens"
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
        """Tokens by kind, not overlapping; None unless the answer came to its end."""
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
