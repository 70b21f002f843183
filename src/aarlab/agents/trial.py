"""Runs one method in the AAR's sandbox and takes its predictions out.

Covered: the method sees its workspace, the public task and at most its model, nothing else; its
output is read as data of a fixed form; a finished run is kept, so that a restart does not run it
again.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from aarlab.agents.config import AarConfig
from aarlab.agents.method_run import (
    ONE_THREAD,
    MethodView,
    method_view,
    sandbox_kind,
    take_output,
)
from aarlab.agents.state import Trial
from aarlab.core.files import write_atomic
from aarlab.core.wire import NewSnapshot, SnapshotFile
from aarlab.sandbox.running import run
from aarlab.sandbox.spec import SandboxSpec
from aarlab.sandbox.workspace import copy_in
from aarlab.testbed.job import Job, JobOutput, SeedPair
from aarlab.testbed.method_folder import recipe_files
from aarlab.testbed.named_method import named_files
from aarlab.testbed.recipe import recipe_from
from aarlab.testbed.task import load_info


class TrialResult(BaseModel):
    """Predictions, and the seconds that the sandbox held the device, measured from outside."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    output: JobOutput
    device_s: float


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

    def run(self, trial: Trial) -> TrialResult:
        """Predictions on the search split; raises MethodFailed with the method's own message."""
        kept = self.config.predictions(trial.index)
        if not kept.exists():
            result = self._run_in_sandbox(trial)
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(kept, result.model_dump_json() + "\n", 0o600)
        return TrialResult.model_validate_json(kept.read_bytes())

    def _run_in_sandbox(self, trial: Trial) -> TrialResult:
        public = self.config.tasks[trial.task or self.config.task]
        view = method_view(public, self.config.models)
        spec, folder = self._sandbox(view), f"trials/{trial.index:04d}"
        inside = spec.seen_workspace / folder
        job = Job(
            method=inside / "method",
            public=view.public_in(spec),
            model=view.model_in(spec),
            runs=self._runs(load_info(public).teacher_seeds),
            diagnostics=False,
        )
        files = {f"{folder}/method/{path}": d for path, d in self.method_files(trial).items()}
        files[f"{folder}/job.json"] = job.model_dump_json().encode()
        copy_in(spec, files)
        module = ["-m", "aarlab.testbed.run_method"]
        paths = [str(inside / "job.json"), str(inside / "out")]
        done = run(spec, [self.python, *module, *paths])
        output = take_output(spec, f"{folder}/out", done)
        return TrialResult(output=output, device_s=done.wall_s)

    def sandbox(self) -> SandboxSpec:
        """That of a method on the first task."""
        return self._sandbox(method_view(self.config.public_task, self.config.models))

    def _sandbox(self, view: MethodView) -> SandboxSpec:
        return SandboxSpec(
            workspace=self.config.workspace,
            read_only=view.read_only,
            socket=self.config.socket,
            limits=view.limits(self.config.trial_timeout_s, self.config.trial_memory_mb),
            uid=self.config.uid,
            env=ONE_THREAD,
            isolation=sandbox_kind(self.config.isolation),
        )

    def _runs(self, teachers: Sequence[int]) -> list[SeedPair]:
        """The public weak teachers take turns."""
        seeds = range(self.config.n_seeds)
        return [SeedPair(teacher_seed=teachers[i % len(teachers)], seed=i) for i in seeds]

    def method_files(self, trial: Trial) -> dict[str, bytes]:
        """Return the method folder of a trial, by relative path."""
        if trial.recipe is not None:
            made = recipe_files(recipe_from(trial.recipe))
        elif trial.method in self.config.own:
            own = self.config.own[trial.method]
            return {path: base64.b64decode(text) for path, text in own.items()}
        else:
            made = named_files(trial.method)
        return {path: text.encode() for path, text in made.items()}
