"""Verify a user's method folders without a campaign: hidden rows, fresh teachers, seeds, audits.

The verifier re-runs each method in a clean sandbox that holds no label. The caller passes a judge
that scores the predictions. Vanilla and the guards run with the same seeds and teachers, so
differences are paired.

Covered: methods run before any baseline, so baselines are not run if all methods fail. Interrupting
ends the sandbox and removes its workspace.
Not covered: audits that need a campaign (search claims against selection, copies, forensics).
"""

import base64
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypedDict

from pydantic import ValidationError

from aarlab import __version__
from aarlab.core import ids
from aarlab.core.delivery import given, why_open
from aarlab.core.errors import BadInput
from aarlab.core.files import write_atomic
from aarlab.core.hashing import content_hash, sha256_hex
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.pgr import coin_pgr
from aarlab.core.ranking import above_teacher
from aarlab.core.scoring import Scoring
from aarlab.core.wire import (
    Ablation,
    Delivery,
    Interval,
    Isolation,
    NewAudit,
    Predictions,
    Snapshot,
    SnapshotContent,
    SnapshotFile,
    TrainRows,
    Verification,
    VerificationResult,
)
from aarlab.sandbox.workspace import WorkspaceState, discard_tree
from aarlab.testbed.methods import METHODS
from aarlab.testbed.methods.named_method import named_files
from aarlab.testbed.running.frozen_method import FrozenMethod
from aarlab.testbed.settings import cores
from aarlab.testbed.tasks.build import SEALS
from aarlab.testbed.tasks.task import load_info
from aarlab.verify import static
from aarlab.verify.battery import ablation, execution, shortcut
from aarlab.verify.finding import ceiling, teacher
from aarlab.verify.rerun import LANES, Verifier, unusable
from aarlab.verify.static import contents, judge_contents

SPLIT: Literal["selection"] = "selection"
VANILLA = "vanilla"
GUARDS = tuple(name for name, method in METHODS.items() if method.guard)
Class = Literal[
    "verified",
    "elicitation",
    "not attributed",
    "not above the teacher",
    "suspect",
    "no gap",
    "failed",
]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """One task, the seeds of all runs, and where and how they run.

    With `repeatable` seeds, predictions of vanilla and the guards are kept in the data root's
    private folder for the next call. Drawn seeds are not reused, so nothing is kept for them.
    """

    root: DataRoot
    task: str
    seeds: tuple[int, ...]
    isolation: Isolation
    repeatable: bool = False
    guards: tuple[str, ...] = field(default_factory=lambda: GUARDS)

    @property
    def private(self) -> Path:
        return self.root.path / "private"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result for one method. Differences are in PGR, or in accuracy where there is no PGR.

    `given` says in words what the method was given: delivery, reason, train rows and stamps.
    `templates` are what it asked the strong model about rows. `flags` holds one line per audit
    finding that is not clear. Figures are None where `error` says why the method has none.
    """

    name: str
    hash: str
    kind: Class
    delivery: Delivery = "open"
    open_because: str = ""
    train_rows: TrainRows = "public"
    given: str = ""
    pgr: Interval | None = None
    accuracy: Interval | None = None
    permuted: Interval | None = None
    templates: tuple[str, ...] = ()
    beats_vanilla: Interval | None = None
    beats_guard: Interval | None = None
    guard: str = ""
    flags: tuple[str, ...] = ()
    error: str = ""


@dataclass(slots=True)
class _Tried:
    """The runs of one method so far."""

    method: FrozenMethod
    plain: Verification
    predictions: Predictions | None = None
    permuted: Verification | None = None
    permuted_predictions: Predictions | None = None
    audits: list[NewAudit] = field(default_factory=list)


def draw_seeds(n: int, base: int | None) -> tuple[int, ...]:
    """Return `n` seeds from `base` on, or random ones if it is None.

    Call it after the methods are frozen.
    """
    if base is not None:
        return tuple(range(base, base + n))
    return tuple(ids.draw_seeds(n))


def verify_methods(
    methods: Sequence[FrozenMethod], plan: Plan, judge: Scoring, tell: Tell
) -> list[Verdict]:
    """Run, ablate, audit and compare the methods, and return a verdict for each.

    The verdict of a method that fails says why.
    """
    plan.private.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_stale(plan.private)
    place = Path(tempfile.mkdtemp(prefix=f"verifying-{os.getpid()}-", dir=plan.private))
    try:
        at_once = min(LANES, cores())
        verifier = Verifier(RunDir(place), plan.root, plan.isolation, 0, at_once=at_once)
        runs = _Runs(plan, verifier, judge, tell)
        tried = [runs.tried(method) for method in methods]
        worked = [one for one in tried if one.predictions is not None]
        for one in worked:
            runs.permute(one)
        baselines = dict(runs.baselines()) if worked else {}
        return [_verdict(one, runs, baselines) for one in tried]
    finally:
        discard_tree(place)


def _remove_stale(private: Path) -> None:
    """Remove the workspaces of killed processes, because they hold hidden rows."""
    for path in private.glob("verifying-*-*"):
        if not Path("/proc", path.name.split("-")[1]).exists():
            discard_tree(path)


@dataclass(frozen=True, slots=True)
class _Runs:
    """Runs methods on one plan, reports each run and scores it."""

    plan: Plan
    verifier: Verifier
    judge: Scoring
    tell: Tell

    def tried(self, method: FrozenMethod) -> _Tried:
        self.tell(f"{method.name}: {len(self.plan.seeds)} seeds on the hidden rows")
        run, predictions = self._run(method, "none")
        return _Tried(method, run, predictions)

    def permute(self, one: _Tried) -> None:
        self.tell(f"{one.method.name}: the same with permuted weak labels")
        one.permuted, one.permuted_predictions = self._run(one.method, "permuted")

    def baselines(self) -> Iterator[tuple[str, Predictions]]:
        """Yield name and predictions of vanilla and of each guard that works on this task."""
        for name in (VANILLA, *self.plan.guards):
            self.tell(f"{name}: {len(self.plan.seeds)} seeds, to compare with")
            files = {path: text.encode() for path, text in named_files(name).items()}
            if (found := self._kept(FrozenMethod(name, files))) is not None:
                yield name, found

    def _kept(self, method: FrozenMethod) -> Predictions | None:
        """Return predictions of an earlier call or a new run, or None where the baseline fails."""
        folder = self.plan.private / "verified"
        path = folder / f"{self._key(method)}.json"
        if self.plan.repeatable and path.is_file():
            try:
                kept = VerificationResult.model_validate_json(path.read_bytes())
                return Predictions(kept.ids, kept.runs)
            except ValidationError:
                path.unlink()  # damaged: run it again
        _, predictions = self._run(method, "none")
        if self.plan.repeatable and predictions is not None:
            folder.mkdir(mode=0o700, exist_ok=True)
            kept = VerificationResult(ids=list(predictions.ids), runs=list(predictions.runs))
            write_atomic(path, kept.model_dump_json() + "\n", 0o600)
        return predictions

    def _key(self, method: FrozenMethod) -> str:
        root, task = self.plan.root, self.plan.task
        seals = root.vault_task(task) / SEALS
        version = sha256_hex(seals.read_bytes()) if seals.is_file() else ""
        info = load_info(root.public_task(task))
        about = [info.content_hash, version, list(self.plan.seeds), method.hash, __version__]
        return content_hash(about)[:40]

    def _run(self, method: FrozenMethod, kind: Ablation) -> tuple[Verification, Predictions | None]:
        """Run the method and return the finished re-run and its predictions.

        The re-run has an estimate where there is a PGR. Predictions are None where it failed.
        """
        wanted = Verification(
            id=ids.new_id("ver"),
            snapshot=method.hash[:40],
            aar="own",
            method=method.name,
            task=self.plan.task,
            split=SPLIT,
            ablation=kind,
            run_seeds=list(self.plan.seeds),
            state="queued",
        )
        try:
            result = self.verifier.rerun(wanted, _content(method))
        except WorkspaceState as error:
            result = unusable(self.verifier, error)
        finally:
            discard_tree(self.verifier.run.verifier / wanted.id)
        known = {
            "seconds": result.seconds,
            "evidence": result.evidence,
            "delivery": result.delivery,
            "open_because": result.open_because,
            "train_rows": result.train_rows,
            "ships": result.ships,
            "asked": result.asked,
        }
        if result.error:
            failed = {**known, "state": "failed", "error": result.error}
            return wanted.model_copy(update=failed), None
        predictions = Predictions(result.ids, result.runs)
        try:
            if [run.seed for run in result.runs] != wanted.run_seeds:
                raise BadInput("expected one run for each seed")
            estimate = None
            self.judge.accuracy_interval(self.plan.task, SPLIT, predictions)
            if self.judge.gap(self.plan.task, SPLIT).clear:
                estimate = self.judge.estimate(self.plan.task, SPLIT, predictions)
        except BadInput as error:
            refused = {
                **known,
                "state": "failed",
                "error": f"its predictions were refused: {error}",
            }
            return wanted.model_copy(update=refused), None
        done = {**known, "state": "done", "estimate": estimate}
        return wanted.model_copy(update=done), predictions


def _content(method: FrozenMethod) -> SnapshotContent:
    files = [
        SnapshotFile(path=path, content_b64=base64.b64encode(data).decode())
        for path, data in method.files.items()
    ]
    snapshot = Snapshot(
        id=method.hash[:40],
        aar="own",
        name=method.name,
        message="",
        parent=None,
        at="",
        n_files=len(files),
        n_bytes=sum(map(len, method.files.values())),
    )
    return SnapshotContent(snapshot=snapshot, files=files)


def _verdict(one: _Tried, runs: _Runs, baselines: dict[str, Predictions]) -> Verdict:
    name, digest = one.method.name, one.method.hash
    run = one.plain
    if one.predictions is None:
        return Verdict(name, digest, "failed", error=run.error, **_given(run))
    judge, task = runs.judge, runs.plan.task
    accuracies = {b: judge.accuracy_interval(task, SPLIT, p) for b, p in baselines.items()}
    guards = [b for b in baselines if b != VANILLA]
    guard = max(guards, key=lambda b: accuracies[b].value, default="")

    def beats(other: str) -> Interval | None:
        if other not in baselines or one.predictions is None:
            return None
        return judge.difference(task, SPLIT, one.predictions, baselines[other])

    permuted = None if one.permuted is None else one.permuted.estimate
    if one.plain.estimate is None and one.permuted_predictions is not None:
        permuted = judge.accuracy_interval(task, SPLIT, one.permuted_predictions)
    known = judge.baselines(task, SPLIT)
    coin = coin_pgr(known.weak, known.ceiling) if one.plain.estimate is not None else None
    kind, flags = _judged(one, coin)
    return Verdict(
        name=name,
        hash=digest,
        kind=kind,
        **_given(run),
        pgr=one.plain.estimate,
        accuracy=judge.accuracy_interval(task, SPLIT, one.predictions),
        permuted=permuted,
        beats_vanilla=beats(VANILLA),
        beats_guard=beats(guard),
        guard=guard,
        flags=flags,
    )


class _Given(TypedDict):
    delivery: Delivery
    open_because: str
    train_rows: TrainRows
    given: str
    templates: tuple[str, ...]


def _given(run: Verification) -> _Given:
    return _Given(
        delivery=run.delivery,
        open_because=why_open(run),
        train_rows=run.train_rows,
        given=given(run) if run.state == "done" else "",
        templates=tuple(run.evidence.templates) if run.evidence is not None else (),
    )


def _judged(one: _Tried, coin: float | None = None) -> tuple[Class, tuple[str, ...]]:
    """Return the class, and a line for each finding that is not clear."""
    run, lines = one.plain, list[str]()
    others = [] if one.permuted is None else [one.permuted]
    found = [shortcut(run)] if run.evidence is not None else []
    found += [execution(run)] if found and run.delivery == "open" else []
    above = run.estimate is not None and above_teacher(run.estimate)
    owed = ablation(run, others, coin) if above else None
    found += filter(None, (owed, teacher(run, owed) if above else None, ceiling(run)))
    lines += [f"{a.kind}, {a.severity}: {a.summary}" for a in found if a.severity != "clear"]
    code = static.review(one.method.files)
    lines += [f"static, suspect: {line}" for line in code]
    carries, summary = judge_contents(contents(one.method.files))
    if carries != "clear":
        lines.append(f"fingerprint, {carries}: {summary}")
    if one.permuted is not None and one.permuted.error:
        lines.append(f"ablation, note: fails on permuted weak labels: {one.permuted.error}")
    if code or "suspect" in (carries, *(a.severity for a in found)):
        return "suspect", tuple(lines)
    if run.estimate is None:
        return "no gap", tuple(lines)
    if not above:
        return "not above the teacher", tuple(lines)
    if owed is None:
        return "not attributed", tuple(lines)
    return ("elicitation" if owed.severity == "note" else "verified"), tuple(lines)
