"""Commands that run on while the model thinks: a thread each, output in a file of the workspace."""

import threading
import time
from dataclasses import dataclass, field, replace

from aarlab.core.errors import AarlabError, BadInput
from aarlab.sandbox.running import run
from aarlab.sandbox.spec import Finished, SandboxSpec

MAX_AT_ONCE = 4
FOLDER = "background"
JOIN_S = 15.0


@dataclass
class _Job:
    begun: float
    cancel: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    seconds: float | None = None
    ended: str = ""


class Backgrounds:
    """Those of this process; what ran in an earlier one ended with it."""

    def __init__(self, sandbox: SandboxSpec) -> None:
        self._sandbox = sandbox
        self._jobs: dict[str, _Job] = {}

    def start(self, name: str, command: str, timeout_s: float) -> None:
        """Raises BadInput when too many run."""
        if len(self._alive()) >= MAX_AT_ONCE:
            raise BadInput(f"{MAX_AT_ONCE} background commands run already: kill one first")
        job = _Job(time.monotonic())
        limits = replace(self._sandbox.limits, wall_s=timeout_s, cpu_s=timeout_s * 8)
        spec = replace(self._sandbox, limits=limits)
        script = f'mkdir -p {FOLDER} && exec >{FOLDER}/{name}.log 2>&1 && exec /bin/bash -c "$0"'
        argv = ["/bin/bash", "-c", script, command]
        job.thread = threading.Thread(target=_work, args=(job, spec, argv), daemon=True)
        self._jobs[name] = job
        job.thread.start()

    def seconds(self, name: str) -> float:
        """Wall seconds so far; 0 for one of an earlier process."""
        job = self._jobs.get(name)
        if job is None:
            return 0.0
        return time.monotonic() - job.begun if job.seconds is None else job.seconds

    def ended(self, name: str) -> str:
        """How it ended; empty while it runs."""
        job = self._jobs.get(name)
        return "it ended when the AAR's process was restarted" if job is None else job.ended

    def kill(self, name: str) -> None:
        job = self._jobs.get(name)
        if job is not None and job.thread is not None:
            job.cancel.set()
            job.thread.join(JOIN_S)

    def kill_all(self) -> None:
        for name in self._alive():
            self._jobs[name].cancel.set()
        for name in list(self._jobs):
            self.kill(name)

    def _alive(self) -> list[str]:
        return [name for name, job in self._jobs.items() if not job.ended]


def _work(job: _Job, spec: SandboxSpec, argv: list[str]) -> None:
    try:
        done = run(spec, argv, None, job.cancel)
        job.seconds, job.ended = done.wall_s, how_it_ended(done)
    except (AarlabError, OSError) as error:
        job.seconds, job.ended = time.monotonic() - job.begun, f"it could not run: {error}"


def how_it_ended(done: Finished) -> str:
    if done.killed_by == "cancel":
        return f"killed after {done.wall_s:.1f} s"
    if done.killed_by is not None:
        return f"ended by the {done.killed_by} limit after {done.wall_s:.1f} s"
    return f"exit code {done.returncode} after {done.wall_s:.1f} s"
