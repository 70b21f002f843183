"""Re-runs one snapshot in clean sandboxes: drawn seeds, fresh weak teachers, hidden rows.

A run is blind: one process per seed, which holds no text, no file of the task, and nothing that an
earlier run left (see `judge`). Methods that say READS_TEXT = True, and tasks whose students train
blocks, are run in the open class: one process for all seeds, with texts and an execution record.

Covered: the method meets inputs it has never seen, in an empty workspace, without a network or the
platform's socket; the process that runs it holds no label and can start no program.
Not covered: in the open class, a method that carries its own knowledge of the split's rows.
"""

import base64
import sys
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aarlab.agents.method_run import (
    ONE_THREAD,
    MethodView,
    how_it_ended,
    method_view,
    sandbox_kind,
    take_output,
)
from aarlab.core.errors import AarlabError, MethodFailed
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import (
    Evidence,
    Isolation,
    Run,
    SnapshotContent,
    Verification,
    VerificationResult,
)
from aarlab.sandbox.running import Cancel, run
from aarlab.sandbox.spec import Finished, SandboxLimits, SandboxSpec
from aarlab.sandbox.workspace import (
    VERIFIERS,
    campaign_uid,
    copy_in,
    prepare_workspace,
    remove_tree,
)
from aarlab.testbed import generators
from aarlab.testbed.channel import Channel
from aarlab.testbed.frozen_method import reads_texts
from aarlab.testbed.job import Job, SeedPair
from aarlab.testbed.task import load_info, load_inputs, student_settings
from aarlab.testbed.task_files import TWIN_INPUTS
from aarlab.verify.evidence import Given, disagreement, read_evidence, style_shift
from aarlab.verify.hidden import (
    FEATURES,
    INPUTS,
    LOWER,
    MORE_LOWER,
    TRAIN_FEATURES,
    TRAIN_INPUTS,
    TRAIN_LOWER,
    TWINS,
    WEAK_LABELS,
    has_twins,
    held_for,
    hidden_files,
    train_side,
    twin_reference,
)
from aarlab.verify.judge import (
    MAX_MESSAGE,
    Basis,
    Hearing,
    Holding,
    Judge,
    Pair,
    Seen,
    channel_pair,
)

WALL_S = 1800.0
WALL_WITH_MODEL_S = 4 * 3600.0  # students that train blocks take minutes a seed
RECORD_KB = 8192
MASKED = (Path(generators.__file__).parent,)  # what rows are made from: of no use without texts


class Stopped(AarlabError):
    """The verifier was told to stop; the re-run stays queued."""

    code = "stopped"


@dataclass(frozen=True, slots=True)
class Verifier:
    """Where a verifier finds tasks and keeps workspaces; `slot` sets it apart from its siblings.

    A re-run may use `memory_mb`, and never less than its task's default. `basis` is "plain" only
    where blind and open runs are compared.
    """

    run: RunDir
    root: DataRoot
    isolation: Isolation
    slot: int
    memory_mb: int = 0
    basis: Basis = "secret"

    def rerun(
        self, wanted: Verification, content: SnapshotContent, cancel: Cancel | None = None
    ) -> VerificationResult:
        """Predictions for every drawn seed, or why there are none; Stopped by `cancel`."""
        files = {f.path: base64.b64decode(f.content_b64) for f in content.files}
        why_open = self._open_because(wanted, files)
        if why_open:
            return self._open(wanted, files, why_open, cancel)
        return self._blind(wanted, files, cancel)

    def _open_because(self, wanted: Verification, files: Mapping[str, bytes]) -> str:
        """Why the run must be given texts, or an empty string."""
        if reads_texts(files):
            return "the method says READS_TEXT = True"
        if student_settings(load_info(self.root.public_task(wanted.task))).adapter is not None:
            return "the students of this task train blocks"
        return ""

    def _blind(
        self, wanted: Verification, files: Mapping[str, bytes], cancel: Cancel | None
    ) -> VerificationResult:
        held, train_rows = held_for(self.root, wanted.task, wanted.split, self.basis)
        until = time.monotonic() + WALL_S
        seen: list[Seen] = []
        error, seconds = "", 0.0
        for at, seed in enumerate(wanted.run_seeds):
            teacher = held.labels.seeds[at % len(held.labels.seeds)]
            pair = Pair(teacher, seed, wanted.ablation)
            spec = self._blind_sandbox(wanted, max(until - time.monotonic(), 0.1))
            copy_in(spec, {f"method/{path}": data for path, data in files.items()})
            heard = _hear(spec, held, pair, cancel)
            seconds += heard.done.wall_s
            if heard.seen is None:
                if heard.done.killed_by == "cancel" and cancel is not None and cancel.is_set():
                    raise Stopped(f"{wanted.id} was cut short: it stays queued")
                error = heard.error[:4000]
                break
            seen.append(heard.seen)
        runs = [
            Run(seed=seed, probs=one.probs_N.tolist())
            for seed, one in zip(wanted.run_seeds, seen, strict=False)
        ]
        return VerificationResult(
            ids=[] if error else [row.id for row in held.rows],
            runs=[] if error else runs,
            seconds=seconds,
            isolation=self.isolation,
            error=error,
            evidence=self._seen(wanted, seen),
            delivery="blind",
            train_rows=train_rows,
        )

    def _seen(self, wanted: Verification, seen: list[Seen]) -> Evidence:
        vault = self.root.vault_task(wanted.task)
        probed = seen if wanted.ablation == "none" else []
        changed = [one.changed for one in probed if one.changed]
        names = changed[0] if changed else {}
        styles = [one.style for one in probed if one.style is not None]
        return Evidence(
            programs=[],
            reached=[],
            compiled=0,
            row_texts=0,
            examples=[],
            truncated=False,
            changed={name: float(np.mean([one[name] for one in changed])) for name in names},
            forwarded=float(np.mean([one.forwarded for one in seen])) if seen else 0.0,
            style=style_shift(styles, twin_reference(vault)) if styles else None,
            disagreement=disagreement([one.probs_N.tolist() for one in seen]),
            answer_equality=any(one.equality for one in seen),
        )

    def _blind_sandbox(self, wanted: Verification, wall_s: float) -> SandboxSpec:
        memory_mb = max(self.memory_mb, MethodView(self.root.public, None).memory_mb)
        limits = SandboxLimits(wall_s=wall_s, cpu_s=2 * wall_s, memory_mb=memory_mb)
        return self._place(wanted, {}, limits, MASKED)

    def _place(
        self,
        wanted: Verification,
        read_only: Mapping[Path, str],
        limits: SandboxLimits,
        masked: tuple[Path, ...] = (),
    ) -> SandboxSpec:
        """An empty workspace, and the sandbox around it."""
        isolated = self.isolation == "bubblewrap"
        uid = campaign_uid(self.run.path, self.slot, VERIFIERS) if isolated else None
        workspace = self.run.verifier / wanted.id
        remove_tree(workspace)  # what an earlier run or a killed verifier left
        prepare_workspace(workspace, uid)
        return SandboxSpec(
            workspace=workspace,
            read_only=read_only,
            masked=masked,
            limits=limits,
            uid=uid,
            env=ONE_THREAD,
            isolation=sandbox_kind(self.isolation),
        )

    def _open(
        self,
        wanted: Verification,
        files: Mapping[str, bytes],
        why: str,
        cancel: Cancel | None,
    ) -> VerificationResult:
        spec = self._open_sandbox(wanted)
        hidden = hidden_files(self.root, wanted.task, wanted.split)
        job = self._job(wanted, spec, hidden)
        method = {f"method/{path}": data for path, data in files.items()}
        copy_in(spec, {**method, **hidden, "job.json": job.model_dump_json().encode()})
        inside = spec.seen_workspace
        argv = [sys.executable, "-P", "-m", "aarlab.verify.watched"]  # -P: not the workspace
        done = run(spec, [*argv, str(inside / "job.json"), str(inside / "out")], cancel=cancel)
        if done.killed_by == "cancel":
            raise Stopped(f"{wanted.id} was cut short: it stays queued")
        result = VerificationResult(
            seconds=done.wall_s,
            isolation=self.isolation,
            delivery="open",
            open_because=why,
            train_rows="hidden" if TRAIN_INPUTS in hidden else "public",
        )
        known = self._given(wanted)
        try:
            output = take_output(spec, "out", done)
        except MethodFailed as error:
            evidence = read_evidence(done.stdout, done.truncated, known, None)
            return result.model_copy(update={"error": str(error)[:4000], "evidence": evidence})
        evidence = read_evidence(done.stdout, done.truncated, known, output)
        made = {"ids": output.ids, "runs": output.runs, "evidence": evidence}
        return result.model_copy(update=made)

    def _given(self, wanted: Verification) -> Given:
        public, vault = self.root.public_task(wanted.task), self.root.vault_task(wanted.task)
        train = train_side(public, vault).rows
        rows = [*train, *load_inputs(vault / "inputs" / f"{wanted.split}.jsonl")]
        if not has_twins(vault, wanted.split):
            return Given(rows, None)
        return Given([*rows, *load_inputs(vault / TWIN_INPUTS)], twin_reference(vault))

    def _open_sandbox(self, wanted: Verification) -> SandboxSpec:
        view = self._view(wanted)
        wall_s = WALL_S if view.model is None else WALL_WITH_MODEL_S
        limits = view.limits(wall_s, max(self.memory_mb, view.memory_mb), RECORD_KB)
        return self._place(wanted, view.read_only, limits)

    def _view(self, wanted: Verification) -> MethodView:
        return method_view(self.root.public_task(wanted.task), self.root.models)

    def _job(self, wanted: Verification, spec: SandboxSpec, hidden: Collection[str]) -> Job:
        inside, view = spec.seen_workspace, self._view(wanted)
        public, vault = self.root.public_task(wanted.task), self.root.vault_task(wanted.task)
        teachers = train_side(public, vault).labels.seeds
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
            train_inputs=inside / TRAIN_INPUTS if TRAIN_INPUTS in hidden else None,
            weak_labels=inside / WEAK_LABELS,
            features=[inside / name for name in (FEATURES, TRAIN_FEATURES) if name in hidden],
            lower=[inside / name for name in (LOWER, MORE_LOWER, TRAIN_LOWER) if name in hidden],
            ablation=wanted.ablation,
            diagnostics=False,
            probe=wanted.ablation == "none",
            twins=inside / TWINS if TWINS in hidden else None,
        )


class _Heard(NamedTuple):
    """What a run gave, or why it gave nothing."""

    done: Finished
    seen: Seen | None
    error: str


@dataclass(frozen=True, slots=True)
class _Either:
    """Set when the verifier was told to stop, or when the judge has heard all."""

    cancel: Cancel | None
    hearing: Hearing

    def is_set(self) -> bool:
        return self.hearing.is_set() or (self.cancel is not None and self.cancel.is_set())


def _hear(spec: SandboxSpec, held: Holding, pair: Pair, cancel: Cancel | None) -> _Heard:
    """Run the method in the sandbox and hear it with a judge outside."""
    ours, theirs = channel_pair()
    hearing = Hearing(Judge(held, pair, Channel(ours, MAX_MESSAGE)))
    thread = threading.Thread(target=hearing.work, name="judge")
    thread.start()
    try:
        argv = [sys.executable, "-P", "-m", "aarlab.verify.inside"]  # -P: not the workspace
        words = [str(theirs.fileno()), str(spec.seen_workspace / "method")]
        done = run(spec, [*argv, *words], cancel=_Either(cancel, hearing), handed=theirs)
    finally:
        theirs.close()
        hearing.end()
        thread.join()
    if hearing.seen is not None:
        return _Heard(done, hearing.seen, "")
    if hearing.error is not None:
        return _Heard(done, None, str(hearing.error))
    if done.killed_by == "cancel":
        return _Heard(done, None, "its process closed the channel to the verifier, and went on")
    return _Heard(done, None, how_it_ended(spec, done))
