"""What AARs and the verifier share: what a method's sandbox sees, taking its predictions out."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from aarlab.core.errors import BadInput, MethodFailed, NotFound
from aarlab.core.foreign import read_json
from aarlab.core.wire import Isolation
from aarlab.sandbox.spec import Finished, SandboxKind, SandboxLimits, SandboxSpec
from aarlab.sandbox.workspace import copy_out
from aarlab.testbed.job import ERROR, PREDICTIONS, JobError, JobOutput
from aarlab.testbed.models.record import FILES, WEIGHTS, read_record
from aarlab.testbed.task import load_info, model_at_hand

MAX_OUTPUT_BYTES = 64 * 2**20
# Several methods share the cores: libraries that take a thread a core each slow all down.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


PUBLIC, MODEL = "/public", "/model"
BASE_MB, MB = 4096, 2**20
PER_WEIGHT = 8  # bytes of address space for a byte of weights: loading, gradients, activations


def task_mounts(tasks: Mapping[str, Path]) -> dict[Path, str]:
    """Public folders of an AAR's tasks to paths inside; with several tasks a folder below PUBLIC
    each."""
    if len(tasks) == 1:
        return dict.fromkeys(tasks.values(), PUBLIC)
    return {folder: f"{PUBLIC}/{name}" for name, folder in tasks.items()}


class MethodView(NamedTuple):
    """What a method's sandbox must see and may use, whoever runs it: the public task, and the
    strong model's folder where the task puts it at hand."""

    public_task: Path
    model: Path | None

    @property
    def read_only(self) -> Mapping[Path, str]:
        """Paths of this machine to paths inside, for `SandboxSpec`."""
        seen = {self.public_task: PUBLIC}
        return seen if self.model is None else {**seen, self.model: MODEL}

    @property
    def memory_mb(self) -> int:
        """What a run may use where nothing else is said; grows with the model."""
        if self.model is None:
            return BASE_MB
        return BASE_MB + PER_WEIGHT * read_record(self.model).files[WEIGHTS].n_bytes // MB

    def limits(
        self, wall_s: float, memory_mb: int | None = None, output_kb: int = 256
    ) -> SandboxLimits:
        """For a run of at most `wall_s`; without `memory_mb` the view's own."""
        memory_mb = memory_mb or self.memory_mb
        return SandboxLimits(
            wall_s=wall_s, cpu_s=2 * wall_s, memory_mb=memory_mb, output_kb=output_kb
        )

    def public_in(self, spec: SandboxSpec) -> Path:
        """The public task as the method sees it."""
        return spec.seen_read_only(self.public_task)

    def model_in(self, spec: SandboxSpec) -> Path | None:
        """The model as the method sees it."""
        return None if self.model is None else spec.seen_read_only(self.model)


def method_view(public_task: Path, models: Path) -> MethodView:
    """The one answer to what a method's sandbox sees; NotFound when the task's model is not in
    `models`, naming the command that fetches it."""
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

    Raises BadInput where there is no such sandbox, since nothing may run without isolation unless
    that was asked for.
    """
    if isolation == "bubblewrap" or isolation == "process":
        return isolation
    raise BadInput(f"isolation {isolation!r} is no sandbox; there are bubblewrap and process")


def take_output(spec: SandboxSpec, folder: str, done: Finished) -> JobOutput:
    """What a run left in its workspace, parsed as data; MethodFailed says what went wrong."""
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
