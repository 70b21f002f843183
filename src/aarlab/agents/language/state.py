"""A language-model AAR's memory on disk: `loop.json`, saved before and after all that has effects.

What an entry of the transcript tells is saved together with the entry (`outbox`), so that after a
crash no entry is missing and none is there twice.
"""

from pathlib import Path
from typing import Any, Literal

from inspect_ai.model import ChatMessage, ChatMessageTool
from pydantic import BaseModel, ConfigDict

from aarlab.core.clock import now_iso
from aarlab.core.transcript import EntryKind, TranscriptEntry

Phase = Literal["ready", "asking", "summing_up", "tools"]


class Background(BaseModel):
    """One long-running command. `booked_s` of it were recorded as spend in `bookings` parts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    command: str
    log: str
    started_at: str
    timeout_s: float
    ended: str = ""
    told: bool = False
    booked_s: float = 0.0
    bookings: int = 0


class LoopState(BaseModel):
    """All that the next step depends on, besides the files in the workspace.

    ready: between turns. asking, summing_up: the model call `call` is paid for or in flight.
    tools: the last assistant message's calls are being answered, in order. `part` counts the
    stretches of a conversation (a fresh session or a summary begins one), `calls` all model calls.
    `context_limit` is what the provider's refusals taught about the length of a conversation,
    `too_long` how many came since the last answer; `repaired` and `discarded` are conversations
    that the provider refused for what they say.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    prompt_hash: str
    phase: Phase = "ready"
    session: int = 1
    part: int = 0
    turn: int = 0
    calls: int = 0
    calls_in_part: int = 0
    call: str | None = None
    messages: list[ChatMessage] = []
    known_tokens: int = 0
    known_messages: int = 0
    spend: dict[str, float] = {}
    wrong_in_a_row: int = 0
    empty_in_a_row: int = 0
    operator_after: int = 0
    warned: bool = False
    ends_at: int | None = None
    paused: bool = False
    wants_session: bool = False
    wants_end: str | None = None
    background: list[Background] = []
    entries: int = 0
    outbox: list[TranscriptEntry] = []
    context_limit: int | None = None
    too_long: int = 0
    repaired: bool = False
    discarded: int = 0
    finished: bool = False
    why: str = ""

    def but(self, **changes: Any) -> "LoopState":
        return self.model_copy(update=changes)

    def said(self, kind: EntryKind, text: str, **more: Any) -> "LoopState":
        """With one more transcript entry, written when this state is saved."""
        entry = TranscriptEntry(
            seq=self.entries + 1,
            at=now_iso(),
            session=self.session,
            turn=self.turn,
            kind=kind,
            text=text,
            **more,
        )
        return self.but(entries=entry.seq, outbox=[*self.outbox, entry])

    def with_messages(self, *messages: ChatMessage) -> "LoopState":
        return self.but(messages=[*self.messages, *messages])

    def spent(self, amounts: dict[str, float]) -> "LoopState":
        total = dict(self.spend)
        for kind, amount in amounts.items():
            total[kind] = total.get(kind, 0.0) + amount
        return self.but(spend=total)

    @property
    def answered(self) -> int:
        """How many calls of the last assistant message have their result."""
        count = 0
        for message in reversed(self.messages):
            if not isinstance(message, ChatMessageTool):
                break
            count += 1
        return count

    def background_of(self, name: str) -> Background | None:
        return next((one for one in self.background if one.id == name), None)

    def with_background(self, changed: Background) -> "LoopState":
        """Replaces the command of that id, or adds it."""
        if self.background_of(changed.id) is None:
            return self.but(background=[*self.background, changed])
        rest = [changed if one.id == changed.id else one for one in self.background]
        return self.but(background=rest)


class Running(BaseModel):
    """`running.json`: the call that may have effects and has no result yet, seen alive last."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    turn: int
    index: int
    tool: str
    started_s: float
    seen_s: float


def loop_file(home: Path) -> Path:
    return home / "loop.json"
