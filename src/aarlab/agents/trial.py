"""Runs of methods: one in the AAR's sandbox, and what AARs and the verifier share.

Shared are what a method's sandbox sees, and taking its predictions out.

Covered: the method sees its workspace, the public task and at most its model, nothing else. Its
output is read as data of a fixed form. A finished run is kept, so that a restart does not run it
again.
"""

import base64
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from aarlab.agents.config import AarConfig, StudentAccess
from aarlab.agents.state import Trial
from aarlab.core.errors import (
    BadInput,
    Forbidden,
    MethodFailed,
    NotFound,
    Superseded,
    Unreachable,
)
from aarlab.core.files import write_atomic
from aarlab.core.foreign import read_json
from aarlab.core.isolation import SANDBOX_KINDS
from aarlab.core.wire import Isolation, NewSnapshot, SnapshotFile
from aarlab.sandbox.running import Cancel, run
from aarlab.sandbox.spec import Finished, SandboxKind, SandboxLimits, SandboxSpec
from aarlab.sandbox.workspace import copy_in, copy_out
from aarlab.students.client import Client
from aarlab.testbed.methods import installed_folder
from aarlab.testbed.methods.named_method import named_files
from aarlab.testbed.models.record import FILES, WEIGHTS, read_record
from aarlab.testbed.recipes.recipe import recipe_from
from aarlab.testbed.running.frozen_method import freeze
from aarlab.testbed.running.job import ERROR, PREDICTIONS, Job, JobError, JobOutput, turns
from aarlab.testbed.running.method_folder import recipe_files
from aarlab.testbed.tasks.task import load_info, model_at_hand

MAX_OUTPUT_BYTES = 64 * 2**20
SERVER_S = 120.0  # for a student server to be there again
MOST_SERVERS = 4  # on which a trial is begun, one after the other
# Several methods share the cores: libraries that take a thread a core each slow all down.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


PUBLIC, MODEL = "/public", "/model"
STUDENTS, TOKENS = "/students/socket", "/students/tokens"  # of a student server
BASE_MB, MB = 4096, 2**20
PER_WEIGHT = 8  # bytes of address space for a byte of weights: loading, gradients, activations


def task_mounts(tasks: Mapping[str, Path]) -> dict[Path, str]:
    """Return the public folders of an AAR's tasks mapped to paths inside.

    With several tasks each has a folder below PUBLIC.
    """
    if len(tasks) == 1:
        return dict.fromkeys(tasks.values(), PUBLIC)
    return {folder: f"{PUBLIC}/{name}" for name, folder in tasks.items()}


def student_mounts(access: StudentAccess | None) -> dict[Path, str]:
    """Return a student server's socket and an AAR's tokens mapped to paths inside."""
    return {} if access is None else {access.socket: STUDENTS, access.tokens: TOKENS}


class MethodView(NamedTuple):
    """What a method's sandbox must see and may use, whoever runs it.

    It sees the public task, and either the strong model's folder, if the task provides the model,
    or the socket of a student server.
    """

    public_task: Path
    model: Path | None
    students: Mapping[Path, str] = MappingProxyType({})  # what `student_mounts` gives

    @property
    def read_only(self) -> Mapping[Path, str]:
        """Return paths of this machine mapped to paths inside, for `SandboxSpec`."""
        seen = {self.public_task: PUBLIC, **self.students}
        return seen if self.model is None else {**seen, self.model: MODEL}

    @property
    def memory_mb(self) -> int:
        """Return the memory that a run may use by default; it grows with the model."""
        if self.model is None:
            return BASE_MB
        return BASE_MB + PER_WEIGHT * read_record(self.model).files[WEIGHTS].n_bytes // MB

    def limits(
        self, wall_s: float, memory_mb: int | None = None, output_kb: int = 256
    ) -> SandboxLimits:
        """Return the limits of a run of at most `wall_s`; `memory_mb` defaults to the view's."""
        memory_mb = memory_mb or self.memory_mb
        return SandboxLimits(
            wall_s=wall_s, cpu_s=2 * wall_s, memory_mb=memory_mb, output_kb=output_kb
        )

    def public_in(self, spec: SandboxSpec) -> Path:
        """Return the public task as the method sees it."""
        return spec.seen_read_only(self.public_task)

    def model_in(self, spec: SandboxSpec) -> Path | None:
        """Return the model as the method sees it."""
        return None if self.model is None else spec.seen_read_only(self.model)


def method_view(public_task: Path, models: Path) -> MethodView:
    """Return what a method's sandbox sees, for every kind of run.

    Raises NotFound when the task's model is not in `models`, naming the command that fetches it.
    """
    name = model_at_hand(load_info(public_task))
    if name is None:
        return MethodView(public_task, None)
    folder = models / name
    read_record(folder)
    for file in FILES:  # weights are public, and a sandbox has a uid of its own
        if (folder / file).stat().st_mode & 0o044 != 0o044:
            (folder / file).chmod(0o644)
    return MethodView(public_task, folder)


def sandbox_kind(isolation: Isolation) -> SandboxKind:
    """Return the sandbox for `isolation`.

    Raises BadInput where there is no such sandbox: a run is without isolation only if that was
    asked for.
    """
    for kind in SANDBOX_KINDS:
        if kind == isolation:
            return kind
    known = " and ".join(SANDBOX_KINDS)
    raise BadInput(f"isolation {isolation!r} is not a sandbox; there are {known}")


def take_output(spec: SandboxSpec, folder: str, done: Finished) -> JobOutput:
    """Return what a run left in its workspace, parsed as data; MethodFailed says what failed."""
    for name, model in ((PREDICTIONS, JobOutput), (ERROR, JobError)):
        try:
            raw = copy_out(spec, f"{folder}/{name}", MAX_OUTPUT_BYTES)
            parsed = model.model_validate(read_json(raw, name))
        except NotFound:
            continue
        except (ValidationError, BadInput) as error:
            raise MethodFailed(f"{name} does not have the expected form") from error
        if isinstance(parsed, JobOutput):
            return parsed
        raise MethodFailed(getattr(parsed, "message", "failed without a message"))
    raise MethodFailed(how_it_ended(spec, done))


def how_it_ended(spec: SandboxSpec, done: Finished) -> str:
    """Say why a run left no predictions: the limit it passed, exit code, last words."""
    ended = f"it passed the {done.killed_by} limit" if done.killed_by else "it left no predictions"
    if done.killed_by == "memory":
        ended += f" of {spec.limits.memory_mb} MB"
    last = done.stderr.decode(errors="replace").strip()[-1500:]
    return f"{ended} (exit code {done.returncode})" + (f": {last}" if last else "")


class TrialResult(BaseModel):
    """Predictions, and the seconds that the sandbox held the device, measured from outside.

    With a student server they are those that it counted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    output: JobOutput
    device_s: float


class _Counted(NamedTuple):
    """Device seconds under some tokens. A server that is started again gives other tokens."""

    tokens: tuple[str, ...]
    device_s: float


def _counted(access: StudentAccess, tasks: Collection[str]) -> _Counted:
    """Return what the student server has counted for an AAR on all its tasks.

    A sandbox holds the tokens of all of them, so a trial on one may train with another's. Waits for
    a server that is being started again. Raises Unreachable if it does not come back.
    """
    until = time.monotonic() + SERVER_S
    while True:
        try:
            tokens, device_s = tuple(map(access.token, tasks)), 0.0
            for token in tokens:
                with Client.open(access.socket, token) as client:
                    device_s += float(client.usage()["device_s"])
            return _Counted(tokens, device_s)
        except (Unreachable, Forbidden, OSError):
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


@dataclass(frozen=True, slots=True)
class TrialRunner:
    """Runs trials on any of the config's tasks."""

    config: AarConfig
    python: str

    def snapshot_of(self, trial: Trial) -> NewSnapshot:
        files = [
            SnapshotFile(path=path, content_b64=base64.b64encode(data).decode())
            for path, data in self.method_files(trial).items()
        ]
        return NewSnapshot(
            name=trial.method[:200], message=trial.origin, parent=trial.parent, files=files
        )

    def run(self, trial: Trial, over: Cancel) -> TrialResult:
        """Return predictions on the search split.

        Raises MethodFailed with the method's message, Superseded once this life of the AAR is
        `over`.
        """
        kept = self.config.predictions(trial.index)
        if not kept.exists():
            result = self._run_in_sandbox(trial, over)
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(kept, result.model_dump_json() + "\n", 0o600)
        return TrialResult.model_validate_json(kept.read_bytes())

    def _run_in_sandbox(self, trial: Trial, over: Cancel) -> TrialResult:
        task = trial.task or self.config.task
        public = self.config.tasks[task]
        access = self.config.students
        if access is None:
            view = method_view(public, self.config.models)
        else:
            view = MethodView(public, None, student_mounts(access))
        spec, folder = self._sandbox(view), f"trials/{trial.index:04d}"
        inside = spec.seen_workspace / folder
        job = Job(
            method=inside / "method",
            public=view.public_in(spec),
            model=view.model_in(spec),
            runs=turns(load_info(public).teacher_seeds, range(self.config.n_seeds)),
            diagnostics=False,
        )
        files = {f"{folder}/method/{path}": d for path, d in self.method_files(trial).items()}
        files[f"{folder}/job.json"] = job.model_dump_json().encode()
        copy_in(spec, files)
        paths = [str(inside / "job.json"), str(inside / "out")]

        def ran(*words: str) -> Finished:
            done = run(spec, [self.python, "-m", *words], cancel=over)
            if over.is_set():
                raise Superseded("a newer process of this AAR has begun: its trial was ended")
            return done

        if access is None:
            done = ran("aarlab.testbed.running.run_method", *paths)
            output = take_output(spec, f"{folder}/out", done)
            return TrialResult(output=output, device_s=done.wall_s)
        paths.append(str(spec.seen_read_only(access.socket)))
        paths.append(str(spec.seen_read_only(access.tokens) / f"{task}.token"))
        for _ in range(MOST_SERVERS):
            before = _counted(access, self.config.tasks)
            done = ran("aarlab.students.run_method", *paths)
            after = _counted(access, self.config.tasks)
            if before.tokens == after.tokens:
                break  # else the student server was started again, and what it held is gone
        output = take_output(spec, f"{folder}/out", done)
        return TrialResult(output=output, device_s=max(after.device_s - before.device_s, 0.0))

    def sandbox(self) -> SandboxSpec:
        """Return the sandbox of a method on the first task."""
        return self._sandbox(method_view(self.config.public_task, self.config.models))

    def _sandbox(self, view: MethodView) -> SandboxSpec:
        return SandboxSpec(
            workspace=self.config.workspace,
            read_only=view.read_only,
            limits=view.limits(self.config.trial_timeout_s, self.config.trial_memory_mb),
            uid=self.config.uid,
            env=ONE_THREAD,
            isolation=sandbox_kind(self.config.isolation),
        )

    def method_files(self, trial: Trial) -> dict[str, bytes]:
        """Return the method folder of a trial, by relative path."""
        if trial.recipe is not None:
            made = recipe_files(recipe_from(trial.recipe))
        elif trial.method in self.config.own:
            own = self.config.own[trial.method]
            return {path: base64.b64decode(text) for path, text in own.items()}
        elif (folder := installed_folder(trial.method)) is not None:
            return freeze(folder).files
        else:
            made = named_files(trial.method)
        return {path: text.encode() for path, text in made.items()}
