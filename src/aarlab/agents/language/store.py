"""The files of one language-model AAR, outside its workspace; each is replaced whole.

    loop.json       the state            answers/<call>.json   a model's answer, until it is in it
    state.json      finished, and why    requests/<key>.json   what a platform call was made with
    running.json    the tool at work     transcript.jsonl      what happened, for people

Order is the contract: an answer is written before anything else happens with it; the state is
written before the transcript, which is completed from the state's `outbox` after a crash.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inspect_ai.model import ModelOutput
from pydantic import BaseModel, ConfigDict, ValidationError

from aarlab.agents.language.state import LoopState, Running, loop_file
from aarlab.agents.language.transcripts import TranscriptWriter
from aarlab.agents.state import AarState, load_state, save_state
from aarlab.core.errors import Damaged
from aarlab.core.files import write_atomic
from aarlab.core.wire_service import ModelCall

PRIVATE = 0o600


class Answer(BaseModel):
    """What the model said, and what it cost as it will be recorded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    output: ModelOutput
    record: ModelCall


class Store:
    """One per AAR process."""

    def __init__(self, home: Path, clean: Callable[[str], str]) -> None:
        """`clean` takes secrets out of whatever goes into the transcript."""
        self.home, self._clean = home, clean
        for folder in (self._answers, self._requests):
            folder.mkdir(parents=True, exist_ok=True)
        self._transcript = TranscriptWriter(home / "transcript.jsonl")

    @property
    def _answers(self) -> Path:
        return self.home / "answers"

    @property
    def _requests(self) -> Path:
        return self.home / "requests"

    # ------------------------------------------------------------ state
    def closed(self) -> bool:
        """Whether the campaign, too, holds this AAR to be finished (agents.state.reopen)."""
        return load_state(self.home / "state.json").finished

    def load(self) -> LoopState | None:
        """The state as it was saved last, its transcript entries completed; None at the start."""
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
        """What a crash left behind and the state has taken in already."""
        for path in self._answers.glob("*.json"):
            if path.stem != state.call:
                path.unlink(missing_ok=True)
        if state.phase != "tools":
            self.drop_requests()

    def save(self, state: LoopState) -> LoopState:
        """Written, with its transcript entries; returns it without them."""
        told = [one.model_copy(update={"text": self._clean(one.text)}) for one in state.outbox]
        state = state.but(outbox=told)
        write_atomic(loop_file(self.home), state.model_dump_json() + "\n", PRIVATE)
        self._transcript.add(state.outbox)
        if state.finished:
            save_state(self.home / "state.json", AarState().ended(state.why))
        return state.but(outbox=[])

    # ------------------------------------------------------------ model calls
    def answer(self, call: str) -> Answer | None:
        path = self._answers / f"{call}.json"
        return Answer.model_validate_json(path.read_bytes()) if path.exists() else None

    def keep_answer(self, call: str, answer: Answer) -> None:
        write_atomic(self._answers / f"{call}.json", answer.model_dump_json() + "\n", PRIVATE)

    def drop_answer(self, call: str) -> None:
        """Once the saved state has it."""
        (self._answers / f"{call}.json").unlink(missing_ok=True)

    # ------------------------------------------------------------ tools
    def request(self, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What a platform call is made with: made once, the same when it is repeated."""
        path = self._requests / f"{key}.json"
        if not path.exists():
            write_atomic(path, json.dumps(make()) + "\n", PRIVATE)
        made: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return made

    def drop_requests(self) -> None:
        for path in self._requests.glob("*.json"):
            path.unlink(missing_ok=True)

    def started(self, running: Running) -> None:
        write_atomic(self.home / "running.json", running.model_dump_json() + "\n", PRIVATE)

    def still_running(self, running: Running) -> None:
        self.started(running.model_copy(update={"seen_s": time.time()}))

    def running(self) -> Running | None:
        path = self.home / "running.json"
        return Running.model_validate_json(path.read_bytes()) if path.exists() else None

    def ended(self) -> None:
        (self.home / "running.json").unlink(missing_ok=True)
