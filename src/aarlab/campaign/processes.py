"""Child processes of a campaign: they die with it, restart when they crash, log to a file."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aarlab.campaign.settings import RestartSettings, restart_settings
from aarlab.client.transport import Address, health
from aarlab.core.errors import AarlabError, Unreachable

GRACE_S = 10.0
GIVEN_UP = 78  # agents.__main__.SETTINGS: started again, it would end the same way
LOG_TAIL_BYTES = 64_000


class CrashedRepeatedly(AarlabError):
    """A child process died again and again without finishing."""

    code = "crashed"


@dataclass
class Child:
    """One supervised process: `poll` restarts it after a crash, `stop` ends it.

    Each restart waits longer than the previous one (`restarts`). The wait is multiplied by
    `jitter()`, so that processes that crashed together do not restart together. The crash count
    starts again from 0 after a process has run for `healthy_s`.
    """

    name: str
    argv: Sequence[str]
    log: Path
    crashes: int = 0
    finished: bool = False
    failed: bool = False
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    restarts: RestartSettings = field(default_factory=restart_settings, repr=False)
    jitter: Callable[[], float] = field(default=lambda: random.uniform(0.75, 1.0), repr=False)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    exit_code: int | None = None
    _started_at: float = 0.0
    _restart_at: float | None = None

    def start(self) -> None:
        """SIGKILL reaches the child when this process dies, however it dies."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._started_at, self._restart_at = self.clock(), None
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def poll(self) -> str | None:
        """Return what just happened (`finished`, `crashed`, `restarted`, `failed`) or None."""
        if self.process is None or self.finished or self.failed:
            return None
        if self._restart_at is not None:
            if self.clock() < self._restart_at:
                return None
            self.start()
            return "restarted"
        if (code := self.process.poll()) is None:
            return None
        self.exit_code, self.finished = code, code == 0
        if code == GIVEN_UP:
            self.failed = True
            return "failed"
        return "finished" if self.finished else self._crashed()

    def _crashed(self) -> str:
        """Count a crash, then schedule the restart or give the process up."""
        if self.clock() - self._started_at >= self.restarts.healthy_s:
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
        code = self.exit_code
        return "" if code is None else f"signal {-code}" if code < 0 else f"exit code {code}"

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def last_words(self, lines: int = 5) -> str:
        """The end of its log, for an error message; of a long log the end only is read."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES, 0))
            return "\n".join(file.read().decode(errors="replace").rstrip("\n").split("\n")[-lines:])

    def again(self) -> None:
        """Start the process again after it finished or was given up, with its crash count reset."""
        self.crashes, self.finished, self.failed = 0, False, False
        self.start()


def wait_for_server(child: Child, path: Path, timeout_s: float = 60.0) -> None:
    """Block until the platform answers; raises with the child's last words when it dies instead."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if child.process is not None and child.process.poll() is not None:
            raise CrashedRepeatedly(f"{child.name} did not start:\n{child.last_words()}")
        try:
            health(Address(path), deadline_s=0.0)
        except Unreachable:
            time.sleep(0.05)
        else:
            return
    raise CrashedRepeatedly(f"{child.name} did not answer on {path} within {timeout_s:.0f} s")
