"""The seam between a campaign, which supervises its processes, and what starts and ends them.

An executor starts a job once and says how it ended. Restarts, their waits, crash counts and the
last lines of a log are the campaign's (campaign/processes.py) and the same for every executor.
"""

import os
import signal
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from aarlab.core.errors import AarlabError
from aarlab.core.files import write_atomic
from aarlab.core.wire_base import Strict

LEFT = 128 + signal.SIGUSR1
"""The exit code of a job that gave way: the engine sent SIGUSR1, since its time ends soon.

Such a job has saved all it did and wants to be started again. A job that knows nothing of this dies
of the signal, which a shell reports with the same code.
"""


class NotStarted(AarlabError):
    """The executor could not start a job now; the campaign counts a crash and tries again."""

    code = "not_started"


@dataclass(frozen=True, slots=True)
class Resources:
    """What one job needs. None: the executor's default."""

    cpus: int | None = None
    gpus: int | None = None
    memory_mb: int | None = None
    time_limit_s: float | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A process to run. `name` is unique among the jobs that a campaign runs at the same time.

    Standard output and standard error are appended to `log`. `env` is added to the environment
    that the executor gives. Secrets are neither in `argv` nor in `env`: engines store both.
    """

    name: str
    argv: tuple[str, ...]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = Resources()


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended: its exit code, negative for a signal, None where it is not known.

    `why` is the executor's own reason, such as a time limit; empty where the code says all.
    """

    code: int | None
    why: str = ""


class Handle(Protocol):
    """One job that was started."""

    @property
    def id(self) -> str:
        """Return the name under which a person finds the job, such as a process id."""
        ...

    def begun(self) -> bool:
        """Return whether the job runs or ran; False while it waits in a queue."""
        ...

    def poll(self) -> Ended | None:
        """Return how the job ended, or None while it waits, runs, or cannot be asked about.

        Called several times a second for each job. Does not raise. The answer does not change once
        the job has ended.
        """
        ...

    def stop(self, grace_s: float) -> None:
        """End the job: SIGTERM, then SIGKILL after `grace_s` seconds.

        Returns when the job is gone, or after a limit of the executor if its engine does not
        answer: `poll` is then still None. Has no effect if the job has ended. Does not raise.
        """
        ...


class Options(Strict):
    """Options of an executor in a campaign's spec; a subclass adds fields."""


def variables_lack(env_file: str) -> str | None:
    """Return what is wrong with a file of variables that jobs read on their nodes, or None."""
    file = Path(env_file)
    if not file.is_absolute():
        there = file.expanduser().absolute()
        return f"`env_file: {env_file}` must be a whole path, the same on all nodes: {there}"
    if not file.exists():
        return (
            f"`env_file: {file}` is not there: write lines NAME=VALUE into it, and chmod 600 {file}"
        )
    if not file.is_file() or not os.access(file, os.R_OK):
        return f"`env_file: {file}` is not a file that this user can read: give lines NAME=VALUE"
    if file.stat().st_mode & 0o077:
        return f"`env_file: {file}` must be readable by its owner alone: chmod 600 {file}"
    return None


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of a campaign's executor. It is made when the executor writes into it."""

    folder: Path

    def campaign(self) -> str:
        """Return an id of the campaign that stays the same when the campaign is resumed.

        Engines that hold jobs of many campaigns find those of this one by it.
        """
        path = self.folder / "id"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(path, uuid.uuid4().hex[:12] + "\n")
        return path.read_text(encoding="utf-8").strip()


class Executor(ABC):
    """Start jobs somewhere. A campaign has one executor for its AARs.

    One life at a time: the jobs that an earlier process of the same campaign left running are
    listed by `leftovers`, and the campaign stops them before it starts others.
    """

    options: ClassVar[type[Options]] = Options
    separation: ClassVar[str]
    """What separates a job from the campaign and from other jobs, in words. It comes on top of the
    sandbox in which an AAR runs code, and never replaces it."""

    @abstractmethod
    def __init__(self, options: Options, place: Place) -> None:
        """Prepare to start jobs, without starting any; `options` is of the class in `options`."""

    @abstractmethod
    def start(self, job: Job) -> Handle:
        """Start a job and return at once. Raises NotStarted if this fails for now."""

    def check(self, resources: Resources) -> Iterable[str]:
        """Yield what is missing before jobs with these resources can run, with the remedy."""
        return ()

    def leftovers(self) -> Iterable[tuple[str, Handle]]:
        """Return names and handles of jobs that an earlier process of this campaign left running.

        Raises NotStarted if the engine cannot be asked now.
        """
        return ()

    @property
    def platform_host(self) -> str | None:
        """Return the address of this machine for jobs that run elsewhere.

        The server then listens there on TCP with TLS. None: jobs run here and use the unix socket.
        """
        return None

    def close(self) -> None:  # noqa: B027 - most executors hold nothing
        """Release what the executor holds. Jobs were stopped before."""
