"""Run jobs as child processes of the campaign on this machine."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from aarlab.executors.base import Ended, Executor, Job, Options, Place, Resources
from aarlab.executors.settings import child_environment

SETPRIV = "setpriv"


class LocalExecutor(Executor):
    """Start all jobs at once on this machine; resources are not limited.

    SIGKILL reaches a job when the campaign's process dies, however it dies.
    """

    separation: ClassVar[str] = "processes of the same user on this machine"

    def __init__(self, options: Options | None = None, place: Place | None = None) -> None:
        """Accept no options: a local executor has no state either."""

    def start(self, job: Job) -> "LocalHandle":
        job.log.parent.mkdir(parents=True, exist_ok=True)
        with job.log.open("ab") as out:
            return LocalHandle(
                subprocess.Popen(
                    [SETPRIV, "--pdeathsig", "KILL", "--", *job.argv],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    env=child_environment(job.env),
                    start_new_session=True,
                )
            )

    def check(self, resources: Resources) -> Iterator[str]:
        if shutil.which(SETPRIV) is None:
            yield "the command setpriv is missing: install the package util-linux"


@dataclass(frozen=True, slots=True)
class LocalHandle:
    """A child process."""

    process: subprocess.Popen[bytes]

    @property
    def id(self) -> str:
        return f"pid {self.process.pid}"

    def begun(self) -> bool:
        return True

    def poll(self) -> Ended | None:
        code = self.process.poll()
        return None if code is None else Ended(code)

    def stop(self, grace_s: float) -> None:
        if self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
