"""Run AARs on Ray: a detached actor for each, which Ray starts again when its node is lost.

Assumed: the run's folder, the data root and the Python environment have the same paths on all
nodes, the campaign's machine is a node, and `host` is its address where the others reach it.

Covered: jobs that wait; a lost node; a worker that dies; a campaign killed with jobs running; a
lost head (a process of its own, aarlab_ray_talker.py, talks to Ray: Ray ends such a process when
the head is lost, and takes over its signals).
Not covered: a node cut off from the head whose AAR lives on; the platform refuses that one.
"""

import importlib.util
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pydantic import Field

from aarlab.executors.base import (
    Ended,
    Executor,
    Job,
    NotStarted,
    Options,
    Place,
    Resources,
    variables_lack,
)

MISSING = "the package ray is not installed: pip install ray, the same version on all nodes"
TALKER = Path(__file__).with_name("aarlab_ray_talker.py")
ANSWER_S, GONE_S, RETRY_S = 60.0, 20.0, 5.0
WITH_FILE = 'set -a; . "$0"; set +a; exec "$@"'  # $0 is the file of model keys


class RayOptions(Options):
    """`env_file` sets variables of the AARs, such as model keys; only its owner may read it."""

    address: str = "auto"
    resources: dict[str, float] = Field(default_factory=dict)
    env_file: str | None = None
    host: str | None = None
    poll_s: float = Field(default=1.0, ge=0)


class Row(NamedTuple):
    """What is known of a job; `state` is queued, running, lost or ended."""

    state: str = "queued"
    begun: bool = False
    code: int | None = None
    why: str = ""


class RayExecutor(Executor):
    """Start an actor for each AAR; one question to Ray serves all of them."""

    options: ClassVar[type[Options]] = RayOptions
    separation: ClassVar[str] = "processes of the same user, on nodes that Ray chooses"

    def __init__(self, options: Options, place: Place) -> None:
        assert isinstance(options, RayOptions)
        self.given, self._place = options, place
        self._talker: tuple[subprocess.Popen[bytes], Connection] | None = None
        self._asked, self._asked_at = False, float("-inf")
        self._rows: dict[str, Row] = {}

    @property
    def platform_host(self) -> str | None:
        return self.given.host

    def check(self, resources: Resources) -> Iterator[str]:
        if importlib.util.find_spec("ray") is None:
            return (yield MISSING)
        if resources.time_limit_s is not None:
            yield "Ray has no time limits: leave `hours` out, and limit the research instead"
        file = self.given.env_file
        if file is not None and (lack := variables_lack(file)) is not None:
            yield lack
        try:
            if not self._ask("fits", wants := self._wants(resources)):
                yield f"no node of Ray has {wants}"
        except NotStarted as error:
            yield str(error)

    def start(self, job: Job) -> "RayHandle":
        """Start an actor. One that runs the same job is found, one that does not is ended first."""
        env = {} if job.resources.gpus else {"CUDA_VISIBLE_DEVICES": ""}
        words = [f"{name}={value}" for name, value in {**env, **job.env}.items()]
        if self.given.env_file is not None:
            words += ["sh", "-c", WITH_FILE, self.given.env_file]
        given = (["env", *words, *job.argv], str(job.log.absolute()), self._wants(job.resources))
        return RayHandle(self, self._ask("start", job.name, *given))

    def leftovers(self) -> list[tuple[str, "RayHandle"]]:
        names = self._ask("named") if self._place.folder.exists() else []
        return [(name.rpartition(".")[0], RayHandle(self, name)) for name in names]

    def close(self) -> None:
        if self._talker is not None:
            self._lose(GONE_S)

    def row(self, name: str) -> Row:
        """Return what is known of a job; ask again from time to time, and never wait."""
        self._rows.setdefault(name, Row())
        with suppress(NotStarted):
            if self._asked:
                self._take(0.0)
            elif time.monotonic() - self._asked_at >= self.given.poll_s:
                self._send("states", [n for n, row in self._rows.items() if row.state != "ended"])
                self._asked = True
        return self._rows[name]

    def stop(self, name: str, grace_s: float) -> None:
        with suppress(NotStarted):
            self._rows[name] = Row(*self._ask("stop", name, grace_s, more_s=grace_s))

    def _take(self, within_s: float) -> None:
        """Take the answer about all jobs, if it is there."""
        if (said := self._answer(within_s)) is not None:
            self._rows |= {name: Row(*row) for name, row in said.items()}
            self._asked = False
        elif time.monotonic() - self._asked_at > ANSWER_S:
            self._lose(0.0)

    def _wants(self, resources: Resources) -> dict[str, float]:
        wants: dict[str, float] = {"CPU": 1 if resources.cpus is None else resources.cpus}
        wants |= {"GPU": resources.gpus} if resources.gpus else {}
        wants |= {"memory": resources.memory_mb * 2**20} if resources.memory_mb else {}
        return wants | self.given.resources

    def _ask(self, what: str, *given: object, more_s: float = 0.0) -> Any:
        if self._asked:
            self._take(ANSWER_S)
        self._send(what, *given)
        if (said := self._answer(ANSWER_S + more_s)) is None:
            self._lose(0.0)
            raise NotStarted("Ray does not answer")
        return said

    def _send(self, *question: object) -> None:
        if importlib.util.find_spec("ray") is None:
            raise NotStarted(MISSING)
        self._asked_at = time.monotonic()
        if self._talker is None:
            space, (mine, its) = f"aarlab-{self._place.campaign()}", Pipe()
            words = [sys.executable, str(TALKER), self.given.address, space, str(its.fileno())]
            with its, (self._place.folder / "ray.log").open("ab") as log:
                process = subprocess.Popen(
                    words, stdout=log, stderr=log, pass_fds=[its.fileno()], start_new_session=True
                )
            self._talker = process, mine
        with suppress(OSError):  # it has ended: the answer says so
            self._talker[1].send(question)

    def _answer(self, within_s: float) -> Any:
        """Return an answer, or None if there is none yet; raises NotStarted with Ray's reason."""
        assert self._talker is not None
        try:
            said = self._talker[1].recv() if self._talker[1].poll(within_s) else None
        except (OSError, EOFError) as error:
            self._lose(GONE_S)
            raise NotStarted(f"Ray: no connection; see {self._place.folder}/ray.log") from error
        refused, value = said or ("", None)
        if refused:
            self._asked = False
            raise NotStarted(f"Ray: {refused}")
        return value

    def _lose(self, within_s: float) -> None:
        assert self._talker is not None
        (process, connection), self._talker, self._asked = self._talker, None, False
        self._asked_at = time.monotonic() + RETRY_S
        connection.close()
        try:
            process.wait(within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class RayHandle:
    """One job, by the name of its actor."""

    def __init__(self, executor: RayExecutor, name: str) -> None:
        self.id, self._executor = name, executor

    @property
    def state(self) -> str:
        return self._executor.row(self.id).state

    def begun(self) -> bool:
        return self._executor.row(self.id).begun

    def poll(self) -> Ended | None:
        row = self._executor.row(self.id)
        return Ended(row.code, row.why) if row.state == "ended" else None

    def stop(self, grace_s: float) -> None:
        if self.poll() is None:
            self._executor.stop(self.id, grace_s)
