"""Re-run one snapshot in clean sandboxes: drawn seeds, fresh weak teachers, hidden rows.

A run is blind: one process per seed, which holds no text, no file of the task, and nothing that an
earlier run left (see `judge`). Where the task names its strong model, students that train blocks,
templates and generated texts go through the trusted side (see `asking`). Methods that say
READS_TEXT = True are run in the open class: one process for all seeds, with texts, the model and an
execution record. They are those that read texts themselves, or train the model with a library.

Covered: the method meets inputs it has never seen, in an empty workspace, without a network or the
platform's socket. The process that runs it holds no label and cannot start a program.
Not covered: in the open class, a method that carries its own knowledge of the split's rows.
"""

import base64
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from aarlab.agents.trial import ONE_THREAD, MethodView, method_view, sandbox_kind, take_output
from aarlab.core.errors import AarlabError, MethodFailed
from aarlab.core.isolation import is_isolated
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.types import Example
from aarlab.core.wire import (
    Evidence,
    Isolation,
    Run,
    SnapshotContent,
    Verification,
    VerificationResult,
)
from aarlab.sandbox.running import Cancel, run
from aarlab.sandbox.spec import SandboxLimits, SandboxSpec
from aarlab.sandbox.workspace import (
    VERIFIERS,
    campaign_uid,
    copy_in,
    prepare_workspace,
    remove_tree,
)
from aarlab.testbed.models.record import WEIGHTS, read_record
from aarlab.testbed.running.frozen_method import is_built_in, reads_texts
from aarlab.testbed.running.job import Job, turns
from aarlab.testbed.settings import cores
from aarlab.testbed.tasks import generators
from aarlab.testbed.tasks.material import has_twins
from aarlab.testbed.tasks.task import load_inputs
from aarlab.testbed.tasks.task_files import TWIN_INPUTS
from aarlab.verify.basis import Basis
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
    held_for,
    hidden_files,
    train_side,
    twin_reference,
)
from aarlab.verify.judge import Heard, Holding, Pair, Seen, hear, hear_in_order
from aarlab.verify.static import ships
from aarlab.verify.strong import Strong, StrongModels

LANES = 2
MOST_MODELS = 2  # strong models that may end in the middle of one re-run, less one
WALL_S = 1800.0
WALL_WITH_MODEL_S = 4 * 3600.0  # at least, and for each GB of weights: a 4B student takes hours
RECORD_KB = 8192
# What a seed's process would do again and again: pydantic looks through all installed packages for
# plugins, and glibc gives the memory of each larger array back, to be cleared page by page again.
LEAN = {
    "PYDANTIC_DISABLE_PLUGINS": "__all__",
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**27),
}
MASKED = (Path(generators.__file__).parent,)  # what rows are made from: of no use without texts


def seeds_at_once(parallel: int) -> int:
    """Return how many seeds each of `parallel` verifiers of this machine works on at one time.

    A seed waits while its process starts and while the judge answers, and the last re-run before
    ablations or the end is alone: more seeds than cores keep the cores busy.
    """
    return min(LANES, -(-(cores() + 1) // parallel))


def most_s(model: Path | None) -> float:
    """Return how long a re-run may take, all its seeds together; `model` is what they may train."""
    if model is None:
        return WALL_S
    return WALL_WITH_MODEL_S * max(1.0, read_record(model).files[WEIGHTS].n_bytes / 1e9)


class Stopped(AarlabError):
    """The verifier was asked to stop; the re-run stays queued."""

    code = "stopped"


@dataclass(frozen=True, slots=True)
class Verifier:
    """Where a verifier finds tasks and keeps workspaces; `slot` sets it apart from its siblings.

    A re-run may use `memory_mb`, and never less than its task's default. `at_once` seeds of a blind
    run, at most LANES, are worked on at one time. `basis` is "plain" only where blind and open runs
    are compared. Siblings share `strong`, so that a model is loaded once.
    """

    run: RunDir
    root: DataRoot
    isolation: Isolation
    slot: int
    memory_mb: int = 0
    at_once: int = 1
    basis: Basis = "secret"
    strong: StrongModels = field(default_factory=StrongModels, repr=False)

    def rerun(
        self, wanted: Verification, content: SnapshotContent, cancel: Cancel | None = None
    ) -> VerificationResult:
        """Return predictions for every drawn seed, or why there are none.

        Raises Stopped when `cancel` is set.
        """
        files = {f.path: base64.b64decode(f.content_b64) for f in content.files}
        why_open = self._open_because(wanted, files)
        if why_open:
            result = self._open(wanted, files, why_open, cancel)
        else:
            result = self._blind(wanted, files, cancel)
        return result.model_copy(update={"ships": ships(files)})

    def _open_because(self, wanted: Verification, files: Mapping[str, bytes]) -> str:
        """Return why the run must be given texts, or an empty string."""
        return "the method says READS_TEXT = True" if reads_texts(files) else ""

    def _blind(
        self, wanted: Verification, files: Mapping[str, bytes], cancel: Cancel | None
    ) -> VerificationResult:
        held, train_rows = held_for(self.root, wanted.task, wanted.split, self.basis)
        pairs, begun = turns(held.labels.seeds, wanted.run_seeds), time.monotonic()
        count = len(wanted.run_seeds)
        wall_s = most_s(None if held.place is None else held.place.model)

        def heard_all(strong: Strong | None) -> list[Heard]:
            def work(number: int, lane: int, until: Cancel) -> Heard:
                teacher, seed = pairs[number].teacher_seed, pairs[number].seed
                pair = Pair(teacher, seed, wanted.ablation)
                left_s = max(begun + wall_s - time.monotonic(), 0.1)
                spec = self._blind_sandbox(wanted, left_s, lane)
                copy_in(spec, {f"method/{path}": data for path, data in files.items()})
                return hear(spec, held, pair, until, strong)

            return hear_in_order(work, count, min(self.at_once, count), cancel)

        for _ in range(MOST_MODELS):
            with self._strong(held, wanted) as strong:
                heard = heard_all(strong)
            if not heard or not heard[-1].is_lost:
                break  # else the strong model ended in the middle: once more, from the start
        seen = [one.seen for one in heard if one.seen is not None]
        error = heard[-1].error[:4000] if heard else ""
        stopped = len(seen) < count and cancel is not None and cancel.is_set()
        if stopped and (not error or heard[-1].is_lost or heard[-1].done.killed_by == "cancel"):
            raise Stopped(f"{wanted.id} was cut short: it stays queued")
        runs = [
            Run(seed=seed, probs=one.probs_N.tolist())
            for seed, one in zip(wanted.run_seeds, seen, strict=False)
        ]
        return VerificationResult(
            ids=[] if error else [row.id for row in held.rows],
            runs=[] if error else runs,
            seconds=time.monotonic() - begun,
            isolation=self.isolation,
            error=error,
            evidence=self._seen(wanted, seen),
            delivery="blind",
            train_rows=train_rows,
            asked="" if is_built_in(files) else _asked(seen),
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
            templates=list(dict.fromkeys(text for one in seen for text in one.templates)),
            log_likelihoods=any(one.logp for one in seen),
        )

    @contextmanager
    def _strong(self, held: Holding, wanted: Verification) -> Iterator[Strong | None]:
        for_model = held.for_model
        if for_model is None:
            yield None
            return
        secret = held.drawn("perturb").hex()
        grant = for_model.grant(f"verify/{wanted.id}", secret)
        with self.strong.of(for_model, grant) as strong:
            yield strong

    def _blind_sandbox(self, wanted: Verification, wall_s: float, lane: int = 0) -> SandboxSpec:
        memory_mb = max(self.memory_mb, MethodView(self.root.public, None).memory_mb)
        limits = SandboxLimits(wall_s=wall_s, cpu_s=2 * wall_s, memory_mb=memory_mb)
        spec = self._place(wanted, {}, limits, MASKED, lane)
        return replace(spec, env={**spec.env, **LEAN})

    def _place(
        self,
        wanted: Verification,
        read_only: Mapping[Path, str],
        limits: SandboxLimits,
        masked: tuple[Path, ...] = (),
        lane: int = 0,
    ) -> SandboxSpec:
        """Prepare an empty workspace and its sandbox; `lane` separates simultaneous runs."""
        isolated = is_isolated(self.isolation)
        number = self.slot * LANES + lane
        uid = campaign_uid(self.run.path, number, VERIFIERS) if isolated else None
        workspace = self.run.verifier / wanted.id / str(lane)
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
        public, vault = self.root.public_task(wanted.task), self.root.vault_task(wanted.task)
        train = train_side(public, vault)
        hidden = hidden_files(self.root, wanted.task, wanted.split, train)
        job = self._job(wanted, spec, hidden, train.labels.seeds)
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
            train_rows=train.kind,
        )
        known = self._given(wanted, train.rows)
        try:
            output = take_output(spec, "out", done)
        except MethodFailed as error:
            evidence = read_evidence(done.stdout, done.truncated, known, None)
            return result.model_copy(update={"error": str(error)[:4000], "evidence": evidence})
        evidence = read_evidence(done.stdout, done.truncated, known, output)
        made = {"ids": output.ids, "runs": output.runs, "evidence": evidence}
        return result.model_copy(update=made)

    def _given(self, wanted: Verification, train: Sequence[Example]) -> Given:
        vault = self.root.vault_task(wanted.task)
        rows = [*train, *load_inputs(vault / "inputs" / f"{wanted.split}.jsonl")]
        if not has_twins(vault, wanted.split):
            return Given(rows, None)
        return Given([*rows, *load_inputs(vault / TWIN_INPUTS)], twin_reference(vault))

    def _open_sandbox(self, wanted: Verification) -> SandboxSpec:
        view = self._view(wanted)
        limits = view.limits(most_s(view.model), max(self.memory_mb, view.memory_mb), RECORD_KB)
        return self._place(wanted, view.read_only, limits)

    def _view(self, wanted: Verification) -> MethodView:
        return method_view(self.root.public_task(wanted.task), self.root.models)

    def _job(
        self,
        wanted: Verification,
        spec: SandboxSpec,
        hidden: Collection[str],
        teachers: Sequence[int],
    ) -> Job:
        inside, view = spec.seen_workspace, self._view(wanted)
        return Job(
            method=inside / "method",
            public=view.public_in(spec),
            model=view.model_in(spec),
            runs=turns(teachers, wanted.run_seeds),
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


def unusable(verifier: Verifier, error: Exception) -> VerificationResult:
    """Return a failed re-run of a method that left its workspace in an unusable state."""
    return VerificationResult(
        isolation=verifier.isolation, error=f"its workspace cannot be used: {error}"[:4000]
    )


def _asked(seen: Sequence[Seen]) -> str:
    """Name the facts about texts that any of the runs asked for; states are none.

    The answer to a template is one: students that hardly learned give it as log-likelihoods do.
    """
    words = (
        ("log-likelihoods", any(one.logp for one in seen)),
        ("which answers agree", any(one.equality for one in seen)),
        ("answers to templates", any(one.templates for one in seen)),
    )
    return ", ".join(word for word, asked in words if asked)
