"""Child processes of a campaign: they die with it, restart when they crash, log to a file."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aarlab.client.transport import Address, health
from aarlab.core.errors import AarlabError, Unreachable

GRACE_S = 10.0
MAX_CRASHES = 5
GIVEN_UP = 78  # agents.__main__.SETTINGS: started again, it would end the same way
LOG_TAIL_BYTES = 64_000


class CrashedRepeatedly(AarlabError):
    """A child process died again and again without finishing."""

    code = "crashed"


@dataclass
class Child:
    """One supervised process: `poll` restarts it after a crash, `stop` ends it."""

    name: str
    argv: Sequence[str]
    log: Path
    crashes: int = 0
    finished: bool = False
    failed: bool = False
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """SIGKILL reaches the child when this process dies, however it dies."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def poll(self) -> str | None:
        """Return what just happened (`finished`, `restarted`, `failed`) or None."""
        if self.process is None or self.finished or self.failed:
            return None
        code = self.process.poll()
        if code is None:
            return None
        if code == 0:
            self.finished = True
            return "finished"
        if code == GIVEN_UP:
            self.failed = True
            return "failed"
        self.crashes += 1
        if self.crashes > MAX_CRASHES:
            self.failed = True
            return "failed"
        self.start()
        return "restarted"

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
        """Start it once more after it finished."""
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
