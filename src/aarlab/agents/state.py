"""An AAR's memory on disk: saved before and after every step that has an effect outside.

One life of an AAR at a time writes there. `life` holds the number of the newest one, which the
platform counts (core.supervision). It is written before the memory is loaded, and every save first
looks whether it has become higher.

Covered: two processes on one shared folder, in any order, where the file system has locks that all
its machines see. A process that is halted within a save for longer than LOCK_S looks again before
its file takes the place of the old one. Not covered: one that is halted between this look and the
renaming, which are one after the other; without locks, a claim that falls between the two.
"""

import errno
import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from aarlab.core.endings import AarEnding, ending_of, plain_reason
from aarlab.core.errors import Damaged, Superseded
from aarlab.core.files import write_atomic
from aarlab.core.layout import RunDir
from aarlab.core.wire import Score

LOG = logging.getLogger("aarlab.agents")
LIFE, LIFE_LOCK = "life", "life.lock"
LOCK_S = 5.0  # a lock of a machine that is gone may stay
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})


@dataclass(frozen=True, slots=True)
class Claim:
    """What one life of an AAR has on the AAR's folder, until a newer one claims it."""

    home: Path
    life: int

    def make(self) -> None:
        """Claim the folder for this life. Raises Superseded if a newer one has it."""
        with self.held() as locked:
            if not locked:  # by an older life, or on a machine that is gone: it keeps that lock
                (self.home / LIFE_LOCK).unlink(missing_ok=True)
            write_atomic(self.home / LIFE, f"{self.life}\n")

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Write within this block. Raises Superseded if a newer life has the folder.

        Yields True where no other life can claim the folder meanwhile.
        """
        handle = os.open(self.home / LIFE_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            locked = _locked(handle, self.home)
            self.check()
            yield locked
        finally:
            os.close(handle)

    def check(self) -> None:
        """Raise Superseded if a newer life has the folder."""
        try:
            newest = int((self.home / LIFE).read_bytes())
        except FileNotFoundError:
            return
        except ValueError:
            raise Damaged(f"{self.home / LIFE} is not a number: remove it") from None
        if newest > self.life:
            raise Superseded(
                f"a newer process of this AAR has its folder (life {newest}; this is life "
                f"{self.life}): this one must stop. If the platform's database was replaced by "
                f"an older copy, remove {self.home / LIFE}"
            )

    def save(self, path: Path, state: "AarState") -> None:
        """Save a state for this life. Raises Superseded if a newer one has the folder."""
        with self.held():
            save_state(path, state, self.check)


def _locked(handle: int, home: Path) -> bool:
    """Lock the file, for LOCK_S at most, and return whether it is: if not, the life decides."""
    until = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() < until:
                time.sleep(0.002)
                continue
            LOG.warning("%s is locked by another process for %g s", home / LIFE_LOCK, LOCK_S)
            return False
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            LOG.warning("%s is on a file system without locks", home)
            return False


def begun(folder: Path) -> Claim:
    """Begin a process of a pod: draw a number that no other has, and claim the folder."""
    numbers = folder / "lives"
    numbers.mkdir(parents=True, exist_ok=True)
    life = max((int(path.name) for path in numbers.iterdir()), default=0)
    while True:
        life += 1
        try:
            (numbers / str(life)).touch(exist_ok=False)
        except FileExistsError:
            continue
        claim = Claim(folder, life)
        claim.make()
        return claim


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


def save_state(path: Path, state: AarState, ready: Callable[[], None] = lambda: None) -> None:
    """Replace the file; `ready` is called last before that (core.files)."""
    write_atomic(path, state.model_dump_json(indent=1) + "\n", ready=ready)
