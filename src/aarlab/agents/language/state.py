"""A language-model AAR's memory on disk, outside its workspace; each file is replaced whole.

    loop.json       the state            answers/<call>.json   a model's answer, until it is in it
    state.json      finished, and why    requests/<key>.json   what a platform call was made with
    running.json    the tool at work     transcript.jsonl      what happened, for people
    life            the newest life      (agents.state)

`loop.json` is saved before and after all that has effects. Transcript entries are saved together
with it (`outbox`), so that after a crash no entry is missing and none is given twice.

Order is the contract. An answer is written before anything else happens with it. The state is
written before the transcript, which is completed from the state's `outbox` after a crash. A newer
life claims the folder before it loads, for loading repairs and deletes; from then on all that an
older one would write is refused.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from inspect_ai.model import ChatMessage, ChatMessageTool, ModelOutput
from pydantic import BaseModel, ConfigDict, ValidationError

from aarlab.agents.language.transcripts import TranscriptWriter
from aarlab.agents.state import AarState, Claim, load_state, save_state
from aarlab.core.clock import now_iso
from aarlab.core.errors import Damaged
from aarlab.core.files import write_atomic
from aarlab.core.transcript import EntryKind, TranscriptEntry
from aarlab.core.wire_service import ModelCall

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
    that the provider refused for what they say. `moved` is what the AAR is still to be told of
    its move to another machine.
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
    moved: str = ""
    finished: bool = False
    why: str = ""

    def but(self, **changes: Any) -> "LoopState":
        return self.model_copy(update=changes)

    def said(self, kind: EntryKind, text: str, **more: Any) -> "LoopState":
        """Return the state with one more transcript entry, written when this state is saved."""
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
        """Return how many calls of the last assistant message have their result."""
        count = 0
        for message in reversed(self.messages):
            if not isinstance(message, ChatMessageTool):
                break
            count += 1
        return count

    def background_of(self, name: str) -> Background | None:
        return next((one for one in self.background if one.id == name), None)

    def with_background(self, changed: Background) -> "LoopState":
        """Replace the command of that id, or add it."""
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


PRIVATE = 0o600


class Answer(BaseModel):
    """What the model said, and what it cost as it will be recorded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    output: ModelOutput
    record: ModelCall


class Store:
    """One per AAR process."""

    def __init__(self, home: Path, clean: Callable[[str], str]) -> None:
        """Prepare to store states in `home`.

        `clean` takes secrets out of whatever goes into the transcript.
        """
        self.home, self._clean = home, clean
        self._claim = Claim(home, 0)
        for folder in (self._answers, self._requests):
            folder.mkdir(parents=True, exist_ok=True)

    def claim(self, life: int) -> None:
        """Take the folder for this life. Raises Superseded if a newer one has it."""
        self._claim = Claim(self.home, life)
        self._claim.make()

    @contextmanager
    def _mine(self) -> Iterator[None]:
        """Write within this block. Raises Superseded if a newer life has the folder."""
        with self._claim.held():
            yield

    @cached_property
    def _transcript(self) -> TranscriptWriter:
        """Return the writer. It repairs the file, which only the life that has the folder may."""
        return TranscriptWriter(self.home / "transcript.jsonl")

    @property
    def _answers(self) -> Path:
        return self.home / "answers"

    @property
    def _requests(self) -> Path:
        return self.home / "requests"

    # ------------------------------------------------------------ state
    def closed(self) -> bool:
        """Return whether the campaign, too, holds this AAR to be finished (agents.state.reopen)."""
        return load_state(self.home / "state.json").finished

    def load(self) -> LoopState | None:
        """Return the last saved state, its transcript entries completed; None at the start.

        Raises Superseded, as all that writes here, if a newer life has the folder.
        """
        with self._mine():
            return self._loaded()

    def _loaded(self) -> LoopState | None:
        path = loop_file(self.home)
        if not path.exists():
            return None
        try:
            state = LoopState.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise Damaged(
                f"{path} is not the state of a language-model AAR ({error}); remove the AAR's "
                "folder to start it afresh"
            ) from error
        self._transcript.add(state.outbox)
        self._tidied(state)
        return state.but(outbox=[])

    def _tidied(self, state: LoopState) -> None:
        """Remove what a crash left behind and the state has taken in already."""
        for path in self._answers.glob("*.json"):
            if path.stem != state.call:
                path.unlink(missing_ok=True)
        if state.phase != "tools":
            self._drop_requests()

    def save(self, state: LoopState) -> LoopState:
        """Write a state with its transcript entries; return it without them."""
        told = [one.model_copy(update={"text": self._clean(one.text)}) for one in state.outbox]
        state = state.but(outbox=told)
        text = state.model_dump_json() + "\n"
        with self._mine():
            write_atomic(loop_file(self.home), text, PRIVATE, self._claim.check)
            self._transcript.add(state.outbox, self._claim.check)
            if state.finished:
                ended = AarState().ended(state.why)
                save_state(self.home / "state.json", ended, self._claim.check)
        return state.but(outbox=[])

    # ------------------------------------------------------------ model calls
    def answer(self, call: str) -> Answer | None:
        path = self._answers / f"{call}.json"
        return Answer.model_validate_json(path.read_bytes()) if path.exists() else None

    def keep_answer(self, call: str, answer: Answer) -> None:
        text = answer.model_dump_json() + "\n"
        with self._mine():
            write_atomic(self._answers / f"{call}.json", text, PRIVATE)

    def drop_answer(self, call: str) -> None:
        """Delete a stored answer once the saved state has it."""
        with self._mine():
            (self._answers / f"{call}.json").unlink(missing_ok=True)

    # ------------------------------------------------------------ tools
    def request(self, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what a platform call is made with: made once, the same when it is repeated."""
        path = self._requests / f"{key}.json"
        if not path.exists():
            text = json.dumps(make()) + "\n"
            with self._mine():
                write_atomic(path, text, PRIVATE)
        made: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return made

    def drop_requests(self) -> None:
        with self._mine():
            self._drop_requests()

    def _drop_requests(self) -> None:
        for path in self._requests.glob("*.json"):
            path.unlink(missing_ok=True)

    def started(self, running: Running) -> None:
        with self._mine():
            write_atomic(self.home / "running.json", running.model_dump_json() + "\n", PRIVATE)

    def still_running(self, running: Running) -> None:
        self.started(running.model_copy(update={"seen_s": time.time()}))

    def running(self) -> Running | None:
        path = self.home / "running.json"
        return Running.model_validate_json(path.read_bytes()) if path.exists() else None

    def ended(self) -> None:
        with self._mine():
            (self.home / "running.json").unlink(missing_ok=True)
