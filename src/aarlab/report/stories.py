"""The story of a top method: direction, snapshot, lineage, findings that cite it, verification."""

from dataclasses import dataclass

from aarlab.core.delivery import BEFORE_BLIND, TRAINED_ON, asked, given, probes
from aarlab.core.isolation import isolation_words
from aarlab.core.wire import CampaignExport, Finding, Snapshot, Verification
from aarlab.report import wording
from aarlab.report.view import CampaignView, Method

SHOWN_STORIES = 3
SHOWN_PARENTS = 6


@dataclass(frozen=True, slots=True)
class Story:
    """`lineage` is oldest first and ends with the method's own snapshot.

    `rank` is None for a verified method that is not clearly above the weak teacher.
    """

    rank: int | None
    method: Method
    snapshot: Snapshot | None
    lineage: tuple[str, ...]
    earlier: int
    findings: tuple[Finding, ...]
    facts: tuple[tuple[str, str], ...]


def stories(view: CampaignView) -> list[Story]:
    """Return stories of the best verified methods, else those apart, else the best by search."""
    waiting = tuple(m for m in view.apart if m.role == "aar" and m.ranks)
    leading = view.standing or waiting or tuple(m for m in view.of_role("aar") if m.search)
    shown = enumerate(leading[:SHOWN_STORIES], start=1)
    return [_story(view, method.rank if view.standing else n, method) for n, method in shown]


def _story(view: CampaignView, rank: int | None, method: Method) -> Story:
    snapshots = {snapshot.id: snapshot for snapshot in view.export.snapshots}
    line, names = _lineage(snapshots, method.snapshot), view.standings.names
    return Story(
        rank=rank,
        method=method,
        snapshot=snapshots.get(method.snapshot or ""),
        lineage=tuple(
            f"{names.get(s.id, s.name)} ({wording.shortened(s.name)}, {wording.short_id(s.id)})"
            for s in line[-SHOWN_PARENTS:]
        ),
        earlier=max(len(line) - SHOWN_PARENTS, 0),
        findings=_citing(view.export, method),
        facts=tuple(_facts(view, method)),
    )


def _lineage(snapshots: dict[str, Snapshot], start: str | None) -> list[Snapshot]:
    """Return parents oldest first; a damaged chain that loops is followed once."""
    line: list[Snapshot] = []
    seen: set[str] = set()
    current = start
    while current in snapshots and current not in seen:
        seen.add(current)
        line.append(snapshots[current])
        current = snapshots[current].parent
    return line[::-1]


def _citing(export: CampaignExport, method: Method) -> tuple[Finding, ...]:
    mine = {submission.id for submission in method.submissions}
    return tuple(
        finding
        for finding in export.findings
        if (finding.snapshot and finding.snapshot == method.snapshot) or finding.submission in mine
    )


def _facts(view: CampaignView, method: Method) -> list[tuple[str, str]]:
    """Return one line for each verification of the snapshot, on every task and split."""
    runs = [
        v for v in view.export.verifications if method.snapshot and v.snapshot == method.snapshot
    ]
    facts = [
        (_run_name(view, run), _run_text(view, run)) for run in sorted(runs, key=lambda v: v.at)
    ]
    if not any(run.ablation == "none" and run.estimate for run in runs):
        facts.append(("Verification", "not verified"))
    ablated = any(run.ablation == "permuted" and run.estimate for run in runs)
    if view.problem.weak_labels and not ablated:
        facts.append(("Teacher ablation", "not run"))
    if method.selection is not None:
        if (was := given(method.selection)) != BEFORE_BLIND:  # the leaderboard says that once
            facts.append(("Given", was))
        other = "teachers" if view.problem.weak_labels else "seeds"
        if said := probes(method.selection.evidence, other):
            facts.append(("Probes", said))
        facts += [("Strong model", said) for said in asked(method.selection.evidence)]
    audits = [a for a in view.export.audits if method.snapshot and a.snapshot == method.snapshot]
    return facts + [(f"Audit: {a.kind}", f"{a.severity}: {a.summary}") for a in audits]


def _run_name(view: CampaignView, run: Verification) -> str:
    task = "" if view.task and run.task == view.task.name else f"{run.task}, "
    if not view.problem.weak_labels:
        return f"{task}{run.split}"
    return f"{task}{run.split}, trained on {TRAINED_ON[run.ablation]}"


def _run_text(view: CampaignView, run: Verification) -> str:
    if run.state == "queued":
        return "waiting for the verifier"
    if run.estimate is None:
        return f"failed: {run.error or 'no reason was recorded'}"
    seeds = ", ".join(map(str, run.run_seeds))
    return (
        f"{view.problem.figure} {wording.interval(run.estimate)}, "
        f"accuracy {wording.accuracy(run.accuracy)} on {run.estimate.n_rows:,} rows; "
        f"seeds {seeds}; {wording.duration(run.seconds)}; "
        f"{isolation_words(run.isolation)}"
    )
