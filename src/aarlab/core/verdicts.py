"""Which verdicts stand for each snapshot, and what AARs learn of a verified method.

A snapshot's verdicts are those given to it, and confirmed findings about its AAR. A confirmed
finding stands like a disqualification of every snapshot that it covers, also of later ones, until
it is dismissed. Of all that stand for a snapshot the latest counts, so a person can accept a single
one again.

AARs learn that a method was run, failed or was flagged, and nothing else. An AAR that can read a
figure on a hidden split can climb on it, however it is rounded. The same holds for a rank, an order
by figure, or a flag that a figure sets. The search split alone gives AARs feedback.

Covered: flags are reported only of audits that do not know hidden labels and are made of every
verified method alike. The others (does the claim hold, teacher ablation, above the ceiling) compare
figures on hidden rows, or are made of the best methods first: such a flag would be a bit about a
figure.
Not covered: what people write to AARs. A method that fails on purpose gives its AAR one bit about
the hidden inputs that it was given, which do not hold labels.
"""

from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple

from aarlab.core.wire import (
    MAX_TEXT,
    Audit,
    AuditKind,
    CampaignExport,
    CaseVerdict,
    Verdict,
    Verification,
)


class Worked(NamedTuple):
    """A snapshot, its author, and a task on which it was submitted or re-run."""

    aar: str
    task: str
    snapshot: str


def in_force(cases: Iterable[CaseVerdict]) -> list[CaseVerdict]:
    """Return the latest verdict of each finding, if it disqualifies anything."""
    latest = {case.audit: case for case in cases}
    return [case for case in latest.values() if case.disqualifies in ("task", "all")]


def covers(case: CaseVerdict, work: Worked) -> bool:
    return work.aar == case.aar and (case.disqualifies == "all" or work.task == case.task)


def standing(
    verdicts: Iterable[Verdict], cases: Iterable[CaseVerdict], worked: Iterable[Worked]
) -> dict[str, list[Verdict]]:
    """Return verdicts by snapshot, oldest first.

    A confirmed finding is among them as a verdict under its id.
    """
    found: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        found.setdefault(verdict.snapshot, []).append(verdict)
    if confirmed := in_force(cases):
        held = {
            (work.snapshot, case.id): case
            for work in worked
            for case in confirmed
            if covers(case, work)
        }
        for (snapshot, _), case in held.items():
            found.setdefault(snapshot, []).append(_of_case(case, snapshot))
    return {snapshot: sorted(given, key=lambda v: v.at) for snapshot, given in found.items()}


def standing_in(export: CampaignExport) -> dict[str, list[Verdict]]:
    """Return `standing` of an exported campaign."""
    authors = {snapshot.id: snapshot.aar for snapshot in export.snapshots}
    sent = [(s.task, s.snapshot) for s in export.submissions if s.snapshot]
    rerun = [(v.task, v.snapshot) for v in export.verifications]
    worked = [Worked(authors.get(of, ""), task, of) for task, of in (*sent, *rerun)]
    return standing(export.verdicts, export.case_verdicts, worked)


def _of_case(case: CaseVerdict, snapshot: str) -> Verdict:
    where = f" on {case.task}" if case.task else ""
    reason = f"{case.reason} (finding {case.audit} about {case.aar}'s submissions{where})"
    return Verdict(
        id=case.id,
        snapshot=snapshot,
        decision="disqualified",
        reason=reason[:MAX_TEXT],
        by=case.by,
        at=case.at,
    )


MethodState = Literal["queued", "verified", "failed", "flagged"]
REPORTED: frozenset[AuditKind] = frozenset({"execution", "shortcut", "copy", "static"})


def flags_of(audits: Iterable[Audit], accepted: Collection[str]) -> set[tuple[str, str | None]]:
    """Return snapshot and task (None: any) of the suspect findings that are reported to AARs.

    `accepted` are snapshots that a person accepted after all.
    """
    return {
        (audit.snapshot, audit.task)
        for audit in audits
        if audit.severity == "suspect"
        and audit.kind in REPORTED
        and audit.snapshot is not None
        and audit.snapshot not in accepted
    }


def is_ranking_run(run: Verification) -> bool:
    """Return whether a re-run is of the kind that ranks: ablations and certify tell nothing."""
    return (run.split, run.ablation) == ("selection", "none")


def state_of(
    runs: Iterable[Verification], flags: Collection[tuple[str, str | None]]
) -> MethodState:
    """Return the state of a method from its re-runs of the kind that ranks.

    One re-run that is done counts, however many failed.
    """
    seen = [run for run in runs if is_ranking_run(run)]
    done = [run for run in seen if run.state == "done"]
    if any((run.snapshot, task) in flags for run in done for task in (None, run.task)):
        return "flagged"
    if done:
        return "verified"
    return "failed" if seen and all(run.state == "failed" for run in seen) else "queued"
