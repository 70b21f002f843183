"""Which verdicts stand for each snapshot: those given to it, and confirmed findings about its AAR.

A confirmed finding stands like a disqualification of every snapshot that it covers, also of later
ones, until it is dismissed. Of all that stand for a snapshot the latest counts, so a person can
accept a single one again.
"""

from collections.abc import Iterable
from typing import NamedTuple

from aarlab.core.wire import MAX_TEXT, CampaignExport, CaseVerdict, Verdict


class Worked(NamedTuple):
    """A snapshot, its author, and a task on which it was submitted or re-run."""

    aar: str
    task: str
    snapshot: str


def in_force(cases: Iterable[CaseVerdict]) -> list[CaseVerdict]:
    """Of each finding the latest verdict, where it disqualifies anything."""
    latest = {case.audit: case for case in cases}
    return [case for case in latest.values() if case.disqualifies in ("task", "all")]


def covers(case: CaseVerdict, work: Worked) -> bool:
    return work.aar == case.aar and (case.disqualifies == "all" or work.task == case.task)


def standing(
    verdicts: Iterable[Verdict], cases: Iterable[CaseVerdict], worked: Iterable[Worked]
) -> dict[str, list[Verdict]]:
    """By snapshot, oldest first; of a confirmed finding as a verdict under its id."""
    found: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        found.setdefault(verdict.snapshot, []).append(verdict)
    if confirmed := in_force(cases):
        held = {(work.snapshot, case.id): case for work in worked for case in confirmed
                if covers(case, work)}  # fmt: skip
        for (snapshot, _), case in held.items():
            found.setdefault(snapshot, []).append(_of_case(case, snapshot))
    return {snapshot: sorted(given, key=lambda v: v.at) for snapshot, given in found.items()}


def standing_in(export: CampaignExport) -> dict[str, list[Verdict]]:
    """As `standing`, of an exported campaign."""
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
