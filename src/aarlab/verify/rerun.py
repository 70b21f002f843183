"""Re-runs one snapshot in a clean sandbox: drawn seeds, fresh weak teachers, hidden rows.

Covered: the method meets inputs it has never seen, in an empty workspace, without a network or the
platform's socket; the process that runs it holds no label and can start no program, and what it
does is recorded (see `record`).
Not covered: a method that carries its own knowledge of the split's rows (the ablation shows it).
"""

import base64
import sys
from collections.abc import Collection
from dataclasses import dataclass

from aarlab.agents.method_run import (
    ONE_THREAD,
    MethodView,
    method_view,
    sandbox_kind,
    take_output,
)
from aarlab.core.errors import AarlabError, MethodFailed
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import Isolation, SnapshotContent, Verification, VerificationResult
from aarlab.sandbox.running import Cancel, run
from aarlab.sandbox.spec import SandboxSpec
from aarlab.sandbox.workspace import (
    VERIFIERS,
    campaign_uid,
    copy_in,
    prepare_workspace,
    remove_tree,
)
from aarlab.testbed.job import Job, SeedPair
from aarlab.testbed.task import load_inputs, load_weak_labels
from aarlab.testbed.task_files import TWIN_INPUTS
from aarlab.verify.evidence import Given, read_evidence
from aarlab.verify.hidden import (
    FEATURES,
    INPUTS,
    LOWER,
    MORE_LOWER,
    TWINS,
    WEAK_LABELS,
    has_twins,
    hidden_files,
    twin_reference,
)

WALL_S = 1800.0
WALL_WITH_MODEL_S = 4 * 3600.0  # students that train blocks take minutes a seed
RECORD_KB = 8192


class Stopped(AarlabError):
    """The verifier was told to stop; the re-run stays queued."""

    code = "stopped"


@dataclass(frozen=True, slots=True)
class Verifier:
    """Where a verifier finds tasks and keeps workspaces; `slot` sets it apart from its siblings.

    A re-run may use `memory_mb`, and never less than its task's default.
    """

    run: RunDir
    root: DataRoot
    isolation: Isolation
    slot: int
    memory_mb: int = 0

    def rerun(
        self, wanted: Verification, content: SnapshotContent, cancel: Cancel | None = None
    ) -> VerificationResult:
        """Predictions for every drawn seed, or why there are none; Stopped by `cancel`."""
        spec = self._sandbox(wanted)
        method = {f"method/{f.path}": base64.b64decode(f.content_b64) for f in content.files}
        hidden = hidden_files(self.root.vault_task(wanted.task), wanted.split)
        job = self._job(wanted, spec, hidden)
        copy_in(spec, {**method, **hidden, "job.json": job.model_dump_json().encode()})
        inside = spec.seen_workspace
        argv = [sys.executable, "-P", "-m", "aarlab.verify.watched"]  # -P: not the workspace
        done = run(spec, [*argv, str(inside / "job.json"), str(inside / "out")], cancel=cancel)
        if done.killed_by == "cancel":
            raise Stopped(f"{wanted.id} was cut short: it stays queued")
        stamp: Isolation = self.isolation
        try:
            output = take_output(spec, "out", done)
        except MethodFailed as error:
            message = str(error)[:4000]
            evidence = read_evidence(done.stdout, done.truncated, self._given(wanted), None)
            return VerificationResult(
                seconds=done.wall_s, isolation=stamp, error=message, evidence=evidence
            )
        return VerificationResult(
            ids=output.ids,
            runs=output.runs,
            seconds=done.wall_s,
            isolation=stamp,
            evidence=read_evidence(done.stdout, done.truncated, self._given(wanted), output),
        )

    def _given(self, wanted: Verification) -> Given:
        vault = self.root.vault_task(wanted.task)
        train = self.root.public_task(wanted.task) / "inputs" / "train.jsonl"
        rows = [*load_inputs(train), *load_inputs(vault / "inputs" / f"{wanted.split}.jsonl")]
        if not has_twins(vault, wanted.split):
            return Given(rows, None)
        return Given([*rows, *load_inputs(vault / TWIN_INPUTS)], twin_reference(vault))

    def _sandbox(self, wanted: Verification) -> SandboxSpec:
        isolated, view = self.isolation == "bubblewrap", self._view(wanted)
        uid = campaign_uid(self.run.path, self.slot, VERIFIERS) if isolated else None
        wall_s = WALL_S if view.model is None else WALL_WITH_MODEL_S
        workspace = self.run.verifier / wanted.id
        remove_tree(workspace)  # what a killed verifier left
        prepare_workspace(workspace, uid)
        return SandboxSpec(
            workspace=workspace,
            read_only=view.read_only,
            limits=view.limits(wall_s, max(self.memory_mb, view.memory_mb), RECORD_KB),
            uid=uid,
            env=ONE_THREAD,
            isolation=sandbox_kind(self.isolation),
        )

    def _view(self, wanted: Verification) -> MethodView:
        return method_view(self.root.public_task(wanted.task), self.root.models)

    def _job(self, wanted: Verification, spec: SandboxSpec, hidden: Collection[str]) -> Job:
        inside, view = spec.seen_workspace, self._view(wanted)
        teachers = load_weak_labels(self.root.vault_task(wanted.task) / WEAK_LABELS).seeds
        return Job(
            method=inside / "method",
            public=view.public_in(spec),
            model=view.model_in(spec),
            runs=[
                SeedPair(teacher_seed=teachers[i % len(teachers)], seed=seed)
                for i, seed in enumerate(wanted.run_seeds)
            ],
            split=wanted.split,
            eval_inputs=inside / INPUTS,
            weak_labels=inside / WEAK_LABELS,
            features=[inside / FEATURES],
            lower=[inside / name for name in (LOWER, MORE_LOWER) if name in hidden],
            ablation=wanted.ablation,
            diagnostics=False,
            probe=wanted.ablation == "none",
            twins=inside / TWINS if TWINS in hidden else None,
        )
