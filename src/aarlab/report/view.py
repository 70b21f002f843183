"""The campaign as the report sees it: submissions and verifications joined to methods.

A method is one snapshot, or, without a snapshot, one method name of one AAR.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from aarlab.core.errors import NotFound
from aarlab.core.ledger import PURPOSES, TOKEN_KINDS
from aarlab.core.pgr import teacher_contribution
from aarlab.core.verdicts import standing_in
from aarlab.core.wire import (
    AarRecord,
    Audit,
    BaselineAccuracy,
    CampaignExport,
    Decision,
    Interval,
    Isolation,
    SubmissionRecord,
    TaskInfo,
    Verification,
)
from aarlab.report.statistics import (
    GuardVerdict,
    Point,
    against_guard,
    optimism,
)

Role = Literal["aar", "human", "guard"]
MIN_VALUE = float("-inf")


@dataclass(frozen=True, slots=True)
class Method:
    """`selection` and `permuted` are the first finished verifications on the selection split.

    `decision` is the latest verdict, `flags` what the audits noted or suspect.
    """

    name: str
    aar: str
    role: Role
    direction: str
    snapshot: str | None
    submissions: tuple[SubmissionRecord, ...]
    selection: Verification | None
    permuted: Verification | None
    decision: Decision | None = None
    flags: tuple[Audit, ...] = ()

    @property
    def ranks(self) -> bool:
        """A person's verdict other than `accepted` takes a method out of the ranking."""
        return self.decision in (None, "accepted")

    @property
    def search_submission(self) -> SubmissionRecord | None:
        """The best submission: the one that the method would have been chosen by."""
        return max(self.submissions, key=lambda s: s.exact.value, default=None)

    @property
    def search(self) -> Interval | None:
        return self.search_submission.exact if self.search_submission else None

    @property
    def verified(self) -> Interval | None:
        return self.selection.estimate if self.selection else None

    @property
    def ablated(self) -> Interval | None:
        return self.permuted.estimate if self.permuted else None

    @property
    def contribution(self) -> float | None:
        if self.verified is None or self.ablated is None:
            return None
        return teacher_contribution(self.verified.value, self.ablated.value)

    @property
    def optimism(self) -> float | None:
        return optimism(self.search, self.verified)

    @property
    def isolation(self) -> Isolation:
        """Of the number that counts: the verification where there is one."""
        if self.selection is not None:
            return self.selection.isolation
        return self.search_submission.score.isolation if self.search_submission else "none"


@dataclass(frozen=True, slots=True)
class CampaignView:
    """One task of a campaign: its methods, verified first, then by search PGR."""

    export: CampaignExport
    task: TaskInfo | None
    methods: tuple[Method, ...]

    def of_role(self, role: Role) -> tuple[Method, ...]:
        return tuple(method for method in self.methods if method.role == role)

    @property
    def ranked(self) -> tuple[Method, ...]:
        """Verified methods of AARs that no verdict took out, best selection PGR first."""
        return tuple(m for m in self.of_role("aar") if m.verified and m.ranks)

    @property
    def aars(self) -> tuple[AarRecord, ...]:
        return tuple(aar for aar in self.export.aars if role_of(aar) == "aar")

    @property
    def submissions(self) -> tuple[SubmissionRecord, ...]:
        """Of AARs, on this task, in time order."""
        names, task = {aar.name for aar in self.aars}, self.task.name if self.task else None
        mine = [s for s in self.export.submissions if s.aar in names and s.task == task]
        return tuple(sorted(mine, key=lambda s: (s.research_h, s.at)))

    @property
    def points_by_aar(self) -> dict[str, list[Point]]:
        points: dict[str, list[Point]] = {aar.name: [] for aar in self.aars}
        for submission in self.submissions:
            points[submission.aar].append(Point(submission.research_h, submission.exact))
        return points

    @property
    def best_human(self) -> Method | None:
        return _leading(self.of_role("human"))

    @property
    def best_guard(self) -> Method | None:
        return _leading(self.of_role("guard"))

    def guard_verdict(self, method: Method) -> GuardVerdict | None:
        """None for a baseline, without a verified score or without a guard."""
        guard = self.best_guard
        if method.role != "aar" or method.verified is None or guard is None:
            return None
        reference = guard.verified or guard.search
        if reference is None:
            return None
        return against_guard(method.verified, reference, len(self.ranked))

    def baseline(self, split: str) -> BaselineAccuracy | None:
        task = self.task.name if self.task else None
        return next((b for b in self.export.baselines if b.task == task and b.split == split), None)

    @property
    def operator_spend(self) -> dict[str, dict[str, float]]:
        """Tokens by kind and dollars of the operator's own model calls, by what they were for."""
        found: dict[str, dict[str, float]] = {}
        for spend in self.export.operator_spend:
            sums = found.setdefault(PURPOSES[spend.purpose], {})
            for kind in (*TOKEN_KINDS, "dollars"):
                sums[kind] = sums.get(kind, 0.0) + getattr(spend, kind)
        return found

    @property
    def isolated(self) -> bool:
        """Every AAR and every verification of its methods ran behind the full wall."""
        levels = [aar.isolation for aar in self.aars]
        levels += [method.isolation for method in self.ranked]
        return bool(levels) and all(level == "bubblewrap" for level in levels)


def role_of(aar: AarRecord) -> Role:
    """Baselines are AAR records too, told apart by their researcher or arm."""
    named = (aar.researcher, aar.arm)
    if "human" in named:
        return "human"
    return "guard" if "guard" in named else "aar"


def campaign_view(export: CampaignExport, wanted: str | None = None) -> CampaignView:
    """View of one task: the wanted one, else the spec's first development task, else the one with
    the most submissions. Raises NotFound for a task that the campaign does not have."""
    counts = Counter(submission.task for submission in export.submissions)
    tasks = {info.name: info for info in export.tasks}
    if wanted is not None and wanted not in tasks:
        raise NotFound(f"the campaign has no task {wanted!r}; it has {', '.join(tasks)}")
    name = wanted or _first_task(export)
    task = tasks.get(name or "") or max(
        export.tasks, key=lambda info: counts[info.name], default=None
    )
    if task is None:
        return CampaignView(export, None, ())
    methods = sorted(_methods(export, task.name), key=_order)
    return CampaignView(export, task, tuple(methods))


def _first_task(export: CampaignExport) -> str | None:
    """Of the frozen spec; None where the export has none."""
    campaign = export.spec.get("campaign")
    named = campaign.get("tasks") if isinstance(campaign, dict) else None
    return str(named[0]) if isinstance(named, list) and named else None


def _methods(export: CampaignExport, task: str) -> list[Method]:
    groups: dict[str, list[SubmissionRecord]] = {}
    signed: dict[str, tuple[str, str]] = {}  # key -> (AAR, method name)
    authors = {snapshot.id: snapshot.aar for snapshot in export.snapshots}
    done = [v for v in export.verifications if v.task == task and v.estimate is not None]
    for submission in export.submissions:
        if submission.task == task:
            key = submission.snapshot or f"{submission.aar} {submission.method}"
            groups.setdefault(key, []).append(submission)
            signed.setdefault(key, (authors.get(key, submission.aar), submission.method))
    for verification in done:
        groups.setdefault(verification.snapshot, [])
        signed.setdefault(verification.snapshot, (verification.aar, verification.method))
    aars = {aar.name: aar for aar in export.aars}
    decisions = {s: given[-1].decision for s, given in standing_in(export).items()}
    snapshots = {s.snapshot for s in export.submissions} | {v.snapshot for v in done}
    methods = []
    for key, submissions in groups.items():
        author, name = signed[key]
        methods.append(
            Method(
                name=name,
                aar=author,
                role=role_of(aars[author]) if author in aars else "aar",
                direction=aars[author].direction if author in aars else "",
                snapshot=key if key in snapshots else None,
                submissions=tuple(submissions),
                selection=_first(done, key, "none"),
                permuted=_first(done, key, "permuted"),
                decision=decisions.get(key),
                flags=tuple(
                    a for a in export.audits if a.snapshot == key and a.severity != "clear"
                ),
            )
        )
    return methods


def _first(done: list[Verification], snapshot: str, ablation: str) -> Verification | None:
    """The earliest one counts, so that repeating a verification cannot improve a number."""
    found = [
        v for v in done if (v.snapshot, v.split, v.ablation) == (snapshot, "selection", ablation)
    ]
    return min(found, key=lambda v: v.at, default=None)


def _order(method: Method) -> tuple[bool, float, str]:
    estimate = method.verified or method.search
    return (method.verified is None, -(estimate.value if estimate else MIN_VALUE), method.name)


def _leading(methods: tuple[Method, ...]) -> Method | None:
    """The best: among those verified if any is, else by search PGR."""
    scored = [m for m in methods if m.verified] or [m for m in methods if m.search]
    return scored[0] if scored else None
