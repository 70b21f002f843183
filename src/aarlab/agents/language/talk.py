"""A conversation as a script reads it: turns in order, results joined to their calls."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

CALL_ID = re.compile(r"^r(\d{3})s(\d{2})")
MARK = re.compile(r"\[script at round (\d+) slot (\d+)\]")


class Called(NamedTuple):
    """One tool call."""

    id: str
    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """One message. `call` joins a tool's result to the call that asked for it."""

    role: Literal["system", "user", "assistant", "tool"]
    text: str
    calls: tuple[Called, ...] = ()
    call: str = ""


@dataclass(frozen=True, slots=True)
class Talk:
    """All that a script may look at."""

    turns: Sequence[Turn]

    def place(self) -> tuple[int, int] | None:
        """Round and slot of the last step made: of a call, or noted in notebook or summary."""
        best: tuple[int, int] | None = None
        for turn in self.turns:
            found = [CALL_ID.match(call.id) for call in turn.calls]
            if turn.role == "user":
                found += list(MARK.finditer(turn.text))
            for match in found:
                if match is not None:
                    here = (int(match[1]), int(match[2]))
                    best = here if best is None else max(best, here)
        return best

    def result(self, round_: int, slot: int) -> str:
        """What the (first) call of that step gave; empty where it is no longer known."""
        wanted = f"r{round_:03d}s{slot:02d}"
        for turn in self.turns:
            if turn.role == "tool" and turn.call.startswith(wanted):
                return turn.text
        return ""

    def asks_for_summary(self) -> bool:
        last = self.turns[-1] if self.turns else None
        return last is not None and last.role == "user" and "replaced by a summary" in last.text


def mark(round_: int, slot: int) -> str:
    """How a script finds its place again when the conversation is gone."""
    return f"[script at round {round_} slot {slot}]"
