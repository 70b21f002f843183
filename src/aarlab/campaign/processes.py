"""Processes of a campaign under supervision: restarted when they crash, whoever starts them."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aarlab.campaign.settings import RestartSettings, restart_settings
from aarlab.client.transport import Address, health
from aarlab.core.errors import AarlabError, Unreachable
from aarlab.core.files import end_of
from aarlab.executors.base import Ended, Executor, Handle, Job, NotStarted, Resources
from aarlab.executors.local import LocalExecutor

GRACE_S = 10.0
GIVEN_UP = 78  # agents.__main__.SETTINGS: started again, it would end the same way
LOG_TAIL_BYTES = 64_000
QUEUED_S = 15.0  # an engine that has room starts a job sooner, and nothing is said


class CrashedRepeatedly(AarlabError):
    """A child process died again and again without finishing."""

    code = "crashed"


@dataclass
class Child:
    """One supervised process: `poll` restarts it after a crash, `stop` ends it.

    Each restart waits longer than the previous one (`restarts`). The wait is multiplied by
    `jitter()`, so that processes that crashed together do not restart together. The crash count
    starts again from 0 after a process has run for `healthy_s`; waiting in a queue is not running.
    A process that its `executor` cannot start counts as crashed. One that is `endless` never
    finishes: a server ends with exit code 0 whoever sent it SIGTERM, and is needed all the same.
    """

    name: str
    argv: Sequence[str]
    log: Path
    crashes: int = 0
    finished: bool = False
    failed: bool = False
    handle: Handle | None = field(default=None, repr=False)
    restarts: RestartSettings = field(default_factory=restart_settings, repr=False)
    jitter: Callable[[], float] = field(default=lambda: random.uniform(0.75, 1.0), repr=False)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    executor: Executor = field(default_factory=LocalExecutor, repr=False)
    resources: Resources = field(default_factory=Resources)
    ended: Ended | None = None
    endless: bool = False
    _began_at: float | None = None
    _restart_at: float | None = None
    _asked_at: float = 0.0
    _is_queued: bool = False  # and was said to be

    def start(self) -> None:
        """Start the process; if the executor cannot, the next `poll` says that it crashed."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._began_at = self._restart_at = self.ended = None
        self._asked_at, self._is_queued = self.clock(), False
        job = Job(self.name, tuple(self.argv), self.log, resources=self.resources)
        try:
            self.handle = self.executor.start(job)
        except NotStarted as error:
            self.handle = _NeverBegun(str(error))
        self._note_begun(self.handle)

    def poll(self) -> str | None:
        """Return what just happened or None.

        `queued`, `begun`, `finished`, `crashed`, `restarted` or `failed`; a job begins without a
        word unless it was said to be queued.
        """
        if self.handle is None or self.finished or self.failed:
            return None
        if self._restart_at is not None:
            if self.clock() < self._restart_at:
                return None
            self.start()
            return "restarted"
        if (ended := self.handle.poll()) is None:
            self._note_begun(self.handle)
            return self._left_or_joined_queue()
        self.ended, self.finished = ended, ended.code == 0 and not self.endless
        if ended.code == GIVEN_UP:
            self.failed = True
            return "failed"
        return "finished" if self.finished else self._crashed()

    def _left_or_joined_queue(self) -> str | None:
        if self._began_at is not None:
            was, self._is_queued = self._is_queued, False
            return "begun" if was else None
        if self._is_queued or self.clock() - self._asked_at < QUEUED_S:
            return None
        self._is_queued = True
        return "queued"

    def _note_begun(self, handle: Handle) -> None:
        if self._began_at is None and handle.begun():
            self._began_at = self.clock()

    def _crashed(self) -> str:
        """Count a crash, then schedule the restart or give the process up."""
        if self._began_at is not None and self.clock() - self._began_at >= self.restarts.healthy_s:
            self.crashes = 0
        self.crashes += 1
        if self.crashes > self.restarts.most_crashes:
            self.failed = True
            return "failed"
        self._restart_at = self.clock() + self.wait_s
        return "crashed"

    @property
    def wait_s(self) -> float:
        """Return the seconds from the latest crash to the restart, jitter included."""
        given = self.restarts
        longer = min(self.crashes - 1, 64)  # far beyond any cap, and no overflow
        return min(given.first_s * given.factor**longer, given.longest_s) * self.jitter()

    @property
    def died_of(self) -> str:
        """Return how the last process ended, e.g. `exit code 1` or `signal 9`; empty if unknown."""
        if self.ended is None:
            return ""
        code = self.ended.code
        if self.ended.why or code is None:
            return self.ended.why
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def stop(self) -> None:
        if self.handle is not None:
            self.handle.stop(GRACE_S)

    def last_words(self, lines: int = 5) -> str:
        """Return the end of its log, for an error message; only the end of a long log is read."""
        said = end_of(self.log, LOG_TAIL_BYTES).rstrip("\n")
        return "\n".join(said.split("\n")[-lines:])

    def again(self) -> None:
        """Start the process again after it finished or was given up, with its crash count reset."""
        self.crashes, self.finished, self.failed = 0, False, False
        self.start()


@dataclass(frozen=True, slots=True)
class _NeverBegun:
    """Stands for a job that its executor could not start."""

    why: str
    id: str = "not started"

    def begun(self) -> bool:
        return False

    def poll(self) -> Ended | None:
        return Ended(None, self.why)

    def stop(self, grace_s: float) -> None:
        """Return at once: there is no job."""


def wait_for_server(child: Child, path: Path, timeout_s: float = 60.0) -> None:
    """Block until the platform answers; raises with the child's last words when it dies instead."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if child.handle is not None and child.handle.poll() is not None:
            raise CrashedRepeatedly(f"{child.name} did not start:\n{child.last_words()}")
        try:
            health(Address(path), deadline_s=0.0)
        except Unreachable:
            time.sleep(0.05)
        else:
            return
    raise CrashedRepeatedly(f"{child.name} did not answer on {path} within {timeout_s:.0f} s")
