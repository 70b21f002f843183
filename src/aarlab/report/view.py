"""The campaign as the report sees it: submissions and verifications joined to methods.

A method is one snapshot, or, without a snapshot, one method name of one AAR. Numbers derived from
PGR estimates are pure functions. PGR itself comes from core.pgr only.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, NamedTuple

from aarlab.core.delivery import one_table_note, stamps, why_open
from aarlab.core.errors import NotFound
from aarlab.core.headline import (
    Both,
    Drop,
    Standings,
    first_task,
    standings_of,
    vanilla_of,
    verdict,
)
from aarlab.core.isolation import is_isolated
from aarlab.core.joining import Frozen, Sent, snapshots_of
from aarlab.core.layout import reference_of
from aarlab.core.ledger import PURPOSES, TOKEN_KINDS
from aarlab.core.pgr import coin_pgr, teacher_contribution
from aarlab.core.problem import WEAK_TO_STRONG, ProblemFacts
from aarlab.core.ranking import (
    Against,
    Made,
    Role,
    RunKey,
    above_teacher,
    against,
    first_runs,
    n_tried,
    role_of,
    short_names,
)
from aarlab.core.showing import Look, looks_of
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


class Point(NamedTuple):
    """A score at a time: cumulative research hours and its estimate."""

    hours: float
    estimate: Interval


def best_so_far(points: Iterable[Point]) -> list[Point]:
    """Return points that raised the running maximum, in time order; ties keep the earlier one."""
    raised: list[Point] = []
    for point in sorted(points, key=lambda point: point.hours):
        if not raised or point.estimate.value > raised[-1].estimate.value:
            raised.append(point)
    return raised


def frontier(points_by_aar: Iterable[Iterable[Point]]) -> list[Point]:
    """Return the running maximum over all AARs together."""
    return best_so_far(point for points in points_by_aar for point in points)


def expected_maximum(stderr: float, n_tried: int) -> float:
    """Return how far the best of `n_tried` equally good methods is above their mean by luck.

    SD sqrt(2 ln N), the usual upper bound for N normal scores; 0 when there was no choice.
    """
    return stderr * math.sqrt(2 * math.log(n_tried)) if n_tried > 1 else 0.0


def typical_stderr(estimates: Sequence[Interval]) -> float | None:
    return median(estimate.stderr for estimate in estimates) if estimates else None


MIN_VALUE = float("-inf")
HeadlineKind = Literal["certify", "shrunk", "plain"]


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a campaign. `short` is the name to show, `name` the author's own.

    `submissions` are those of this code on the search split, as `core.joining` finds them.
    `selection` and `permuted` are the first finished verifications on the selection split.
    `rank` is None for a baseline, for a method that stands `apart` (in a table of its own), and
    where a verdict or a missing score prevents ranking.
    `decision` is the latest verdict. `flags` are the audits that noted or suspected something.
    """

    name: str
    short: str
    aar: str
    role: Role
    direction: str
    snapshot: str | None
    submissions: tuple[SubmissionRecord, ...]
    selection: Verification | None
    permuted: Verification | None
    rank: int | None = None
    apart: bool = False
    apart_because: str = ""
    decision: Decision | None = None
    flags: tuple[Audit, ...] = ()

    @property
    def ranks(self) -> bool:
        """Return whether the method ranks: a person's verdict is absent or `accepted`."""
        return self.decision in (None, "accepted")

    @property
    def search_submission(self) -> SubmissionRecord | None:
        """Return the best submission: the one that the method would have been chosen by."""
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
    def stamps(self) -> tuple[str, ...]:
        """Return what a reader must know next to the verified figure."""
        return stamps(self.selection) if self.selection and self.verified else ()

    @property
    def open_because(self) -> str:
        """Return why it was verified with texts; empty for a blind or unverified method."""
        return why_open(self.selection) if self.selection else ""

    @property
    def suspected(self) -> tuple[str, ...]:
        """Return the kinds of the audits that suspect it, in alphabetical order."""
        return tuple(sorted({audit.kind for audit in self.flags if audit.severity == "suspect"}))

    @property
    def contribution(self) -> float | None:
        """Return the teacher contribution, or None without an ablation or a PGR clearly above 0."""
        return teacher_contribution(self.verified, self.ablated)

    @property
    def isolation(self) -> Isolation:
        """Return the isolation of the number that counts: the verification where there is one."""
        if self.selection is not None:
            return self.selection.isolation
        return self.search_submission.score.isolation if self.search_submission else "none"


@dataclass(frozen=True, slots=True)
class Headline:
    """The figure to quote of the best method, and where it comes from.

    "certify" was scored once, on rows by which no choice was made. "shrunk" is the selection figure
    less what choosing the best of `n_compared` methods flatters it by. "plain" is the selection
    figure itself: there was no choice, or the export does not say what that is worth.
    """

    kind: HeadlineKind
    estimate: Interval
    n_compared: int


@dataclass(frozen=True, slots=True)
class CampaignView:
    """One task of a campaign.

    Its methods are in the order of `core.ranking`, followed by unverified ones by search PGR.
    """

    export: CampaignExport
    task: TaskInfo | None
    methods: tuple[Method, ...]
    standings: Standings

    @property
    def verdict(self) -> str:
        """Return the result in one sentence."""
        if self.task is None:
            return "The export names no task, so there is nothing to report."
        return verdict(self.standings)

    @property
    def problem(self) -> ProblemFacts:
        """Return what is said of the research problem of the task."""
        return WEAK_TO_STRONG if self.task is None else self.task.problem

    @property
    def n_tried(self) -> int:
        """Return how many methods of AARs were verified, also those that a verdict excludes."""
        return n_tried(self.standings.board)

    def of_role(self, role: Role) -> tuple[Method, ...]:
        return tuple(method for method in self.methods if method.role == role)

    @property
    def ranked(self) -> tuple[Method, ...]:
        """Return the verified methods of AARs that rank, best selection PGR first."""
        return tuple(m for m in self.methods if m.rank is not None)

    @property
    def apart(self) -> tuple[Method, ...]:
        """Return the methods that stand apart, best selection PGR first, excluded ones last."""
        return tuple(m for m in self.methods if m.apart)

    @property
    def one_table_note(self) -> str:
        """Say that all methods were verified with texts; empty where some were blind."""
        name = self.task.name if self.task else ""
        return one_table_note(self.export.verifications, name)

    @property
    def standing(self) -> tuple[Method, ...]:
        """Return verified methods of AARs that no verdict took out, in leaderboard order.

        Those that are not clearly above the weak teacher have no rank and come last, by time.
        """
        mine = (m for m in self.methods if m.role == "aar" and not m.apart)
        return tuple(m for m in mine if m.verified and m.ranks)

    @property
    def headline(self) -> "Headline | None":
        """Return the figure to quote of the best method; None where none ranks."""
        best = self.ranked[0] if self.ranked else None
        if best is None or best.verified is None or best.snapshot is None or self.task is None:
            return None
        key = RunKey(self.task.name, best.snapshot, "certify", "none")
        certified = first_runs(self.export.verifications).get(key)
        if certified is not None and certified.estimate is not None:
            return Headline("certify", certified.estimate, 1)
        for known in self.export.best:
            if (known.task, known.snapshot) == (self.task.name, best.snapshot):
                kind: HeadlineKind = "shrunk" if known.n_compared > 1 else "plain"
                return Headline(kind, known.estimate, known.n_compared)
        return Headline("plain", best.verified, len(self.standing))

    @property
    def vanilla(self) -> Both | None:
        """Return what vanilla has on search and on selection; None where it lacks one of them."""
        return None if self.task is None else vanilla_of(self.export, self.task.name)

    def drop(self, method: Method) -> Drop | None:
        """Return how far a method fell from search to selection, compared with vanilla."""
        if method.search is None or method.verified is None:
            return None
        return Drop(Both(method.search, method.verified), self.vanilla)

    @property
    def coin(self) -> float | None:
        """Return the PGR of a coin on the selection split; None without its baselines."""
        known = self.baseline("selection")
        if known is None or known.ceiling <= known.weak:
            return None
        return coin_pgr(known.weak, known.ceiling)

    @property
    def aars(self) -> tuple[AarRecord, ...]:
        return tuple(a for a in self.export.aars if role_of(a.researcher, a.arm) == "aar")

    @property
    def looks(self) -> dict[str, Look]:
        """Return the look of each AAR, which is the same in every figure and in the dashboard."""
        return looks_of(aar.name for aar in self.aars)

    @property
    def submissions(self) -> tuple[SubmissionRecord, ...]:
        """Return submissions of AARs, on this task, in time order."""
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
        """Return the best hand-tuned baseline on the selection split that no verdict excludes."""
        return self._highest("human")

    @property
    def best_guard(self) -> Method | None:
        """Return the best guard on the selection split that no verdict excludes."""
        return self._highest("guard")

    def _highest(self, role: Role) -> Method | None:
        """Return the method of a role with the highest figure, clearly above the teacher or not."""
        known = [m for m in self.of_role(role) if m.verified and m.ranks]
        return max(known, key=lambda m: m.verified.value if m.verified else MIN_VALUE, default=None)

    def best_on_search(self, role: Role) -> Method | None:
        scored = [m for m in self.of_role(role) if m.search]
        return max(scored, key=lambda m: m.search.value if m.search else MIN_VALUE, default=None)

    def would_rank(self, method: Method) -> int | None:
        """Return the rank that a verified figure has, or would have if it were not kept out.

        Returns None if it is not clearly above the weak teacher.
        """
        if method.rank is not None or method.verified is None:
            return method.rank
        if not above_teacher(method.verified):
            return None
        value = method.verified.value
        return 1 + sum(m.verified.value >= value for m in self.ranked if m.verified)

    def guard_verdict(self, method: Method) -> Against | None:
        """Compare a method with the best guard.

        Returns None for a baseline, and where either has no score on the selection split.
        """
        guard = self.best_guard
        if method.role != "aar" or method.verified is None or guard is None:
            return None
        return against(method.verified, guard.verified, self.n_tried)

    def baseline(self, split: str) -> BaselineAccuracy | None:
        task = self.task.name if self.task else None
        return next((b for b in self.export.baselines if b.task == task and b.split == split), None)

    @property
    def operator_spend(self) -> dict[str, dict[str, float]]:
        """Return tokens by kind and dollars of the operator's own model calls, by their purpose."""
        found: dict[str, dict[str, float]] = {}
        for spend in self.export.operator_spend:
            sums = found.setdefault(PURPOSES[spend.purpose], {})
            for kind in (*TOKEN_KINDS, "dollars"):
                sums[kind] = sums.get(kind, 0.0) + getattr(spend, kind)
        return found

    @property
    def isolated(self) -> bool:
        """Return whether every AAR and verification of its methods ran behind the full wall."""
        levels = [aar.isolation for aar in self.aars]
        levels += [m.isolation for m in (*self.standing, *self.apart)]
        return bool(levels) and all(is_isolated(level) for level in levels)


def task_reference(export: CampaignExport, task: TaskInfo) -> str:
    """Return NAME@VERSION of a task, in the version that the campaign was bound to."""
    campaign = export.spec.get("campaign")
    versions = campaign.get("versions") if isinstance(campaign, dict) else None
    known = {str(k): str(v) for k, v in versions.items()} if isinstance(versions, dict) else None
    return reference_of(task.name, known, task.content_hash)


def role_of_record(aar: AarRecord) -> Role:
    """Return the role of a record: baselines are AAR records too."""
    return role_of(aar.researcher, aar.arm)


def campaign_view(export: CampaignExport, wanted: str | None = None) -> CampaignView:
    """Return the view of one task. Raises NotFound for a task that the campaign does not have.

    It is the wanted one, else the spec's first development task, else the one with the most
    submissions.
    """
    counts = Counter(submission.task for submission in export.submissions)
    tasks = {info.name: info for info in export.tasks}
    if wanted is not None and wanted not in tasks:
        raise NotFound(f"the campaign has no task {wanted!r}; it has {', '.join(tasks)}")
    name = wanted or first_task(export)
    task = tasks.get(name or "") or max(
        export.tasks, key=lambda info: counts[info.name], default=None
    )
    if task is None:
        return CampaignView(export, None, (), Standings((), {}, ()))
    standings = standings_of(export, task.name)
    order = {line.run.snapshot: place for place, line in enumerate(standings.board)}
    methods = _methods(export, task.name, standings)
    methods.sort(key=lambda m: (order.get(m.snapshot or "", len(order)), *_by_search(m)))
    return CampaignView(export, task, tuple(methods), standings)


def _by_search(method: Method) -> tuple[float, str]:
    return -(method.search.value if method.search else MIN_VALUE), method.short


def _methods(export: CampaignExport, task: str, standings: Standings) -> list[Method]:
    joined = snapshots_of(
        (Sent(s.id, s.aar, s.method, s.snapshot) for s in export.submissions),
        (Frozen(s.id, s.aar, s.name) for s in export.snapshots),
        (
            (f.author, f.submission, f.snapshot)
            for f in export.findings
            if f.submission and f.snapshot
        ),
    )
    runs = first_runs(v for v in export.verifications if v.task == task)
    groups: dict[str, list[SubmissionRecord]] = {}
    signed: dict[str, tuple[str, str]] = {}  # key -> (AAR, method name)
    saved = {s.id: (s.aar, s.name) for s in export.snapshots}
    for submission in export.submissions:
        if submission.task == task:
            key = joined.get(submission.id) or f"{submission.aar} {submission.method}"
            groups.setdefault(key, []).append(submission)
            signed.setdefault(key, saved.get(key, (submission.aar, submission.method)))
    for run in runs.values():
        groups.setdefault(run.snapshot, [])
        signed.setdefault(run.snapshot, (run.aar, run.method))
    roles = {aar.name: role_of_record(aar) for aar in export.aars}
    names = _names(export, signed, roles)
    decisions = {s: given[-1].decision for s, given in standing_in(export).items()}
    snapshots = {*joined.values(), *(run.snapshot for run in runs.values())}
    lines = {line.run.snapshot: line for line in standings.board}
    directions = {aar.name: aar.direction for aar in export.aars}
    return [
        Method(
            name=signed[key][1],
            short=names[key],
            aar=signed[key][0],
            role=roles.get(signed[key][0], "aar"),
            direction=directions.get(signed[key][0], ""),
            snapshot=key if key in snapshots else None,
            submissions=tuple(submissions),
            selection=runs.get(RunKey(task, key, "selection", "none")),
            permuted=runs.get(RunKey(task, key, "selection", "permuted")),
            rank=lines[key].rank if key in lines else None,
            apart=key in lines and lines[key].apart,
            apart_because=lines[key].apart_because if key in lines else "",
            decision=decisions.get(key),
            flags=tuple(a for a in export.audits if a.snapshot == key and a.severity != "clear"),
        )
        for key, submissions in groups.items()
    ]


def _names(
    export: CampaignExport, signed: dict[str, tuple[str, str]], roles: dict[str, Role]
) -> dict[str, str]:
    """Return short names by snapshot, or by key for methods submitted without code."""
    saved = [Made(s.id, s.aar, s.name) for s in export.snapshots]
    known = {one.key for one in saved}
    unsaved = [Made(k, aar, name, False) for k, (aar, name) in signed.items() if k not in known]
    return short_names([*saved, *unsaved], roles)
