"""An AAR's memory on disk: saved before and after every step that has an effect outside."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from aarlab.core.endings import AarEnding, ending_of, plain_reason
from aarlab.core.errors import Damaged
from aarlab.core.files import write_atomic
from aarlab.core.layout import RunDir
from aarlab.core.wire import Score

Outcome = Literal["pending", "scored", "failed"]


class Trial(BaseModel):
    """One method tried on one task, without a name the AAR's first.

    `recipe` is None for a named method; `origin` says where it came from.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    index: int
    method: str
    origin: str
    task: str = ""
    recipe: dict[str, Any] | None = None
    parent: str | None = None
    outcome: Outcome = "pending"
    snapshot: str | None = None
    score: Score | None = None
    error: str = ""
    device_s: float = 0.0


class AarState(BaseModel):
    """All trials so far; at most the last is pending."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    trials: tuple[Trial, ...] = ()
    finished: bool = False
    why: str = ""

    @property
    def pending(self) -> Trial | None:
        last = self.trials[-1] if self.trials else None
        return last if last is not None and last.outcome == "pending" else None

    @property
    def done(self) -> tuple[Trial, ...]:
        return tuple(trial for trial in self.trials if trial.outcome != "pending")

    def proposed(self, trial: Trial) -> "AarState":
        return self.model_copy(update={"trials": (*self.trials, trial)})

    def updated(self, trial: Trial) -> "AarState":
        return self.model_copy(update={"trials": (*self.trials[:-1], trial)})

    def ended(self, why: str) -> "AarState":
        return self.model_copy(update={"finished": True, "why": why})


def load_state(path: Path) -> AarState:
    """Read a state, empty where there is no file; Damaged where it cannot be read."""
    if not path.exists():
        return AarState()
    try:
        return AarState.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, ValidationError) as error:
        raise Damaged(
            f"{path} is not an AAR's state ({error}); remove the AAR's folder to start it afresh"
        ) from error


def how_it_ended(run: RunDir, name: str) -> AarEnding | None:
    """Return the ending of an AAR that has a process of ours, or None while it has not ended.

    Raises Damaged where its state cannot be read.
    """
    state = load_state(run.aar(name) / "state.json")
    if state.finished:
        why = plain_reason(state.why)
        return AarEnding(aar=name, ending=ending_of(why), why=why)
    try:
        return AarEnding.model_validate_json(run.given_up(name).read_bytes())
    except (OSError, ValidationError):
        return None


def reopen(path: Path) -> None:
    """Let an AAR whose budget was extended continue when its process starts again."""
    state = load_state(path)
    save_state(path, state.model_copy(update={"finished": False, "why": ""}))


def save_state(path: Path, state: AarState) -> None:
    write_atomic(path, state.model_dump_json(indent=1) + "\n")
