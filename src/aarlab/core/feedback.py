"""What AARs learn of a verified method: that it was run, failed or was flagged, and nothing else.

A figure on a hidden split that an AAR can read is something to climb on, however it is rounded, and
so is a rank, an order by figure, or a flag that a figure sets. The search split alone gives AARs
feedback.

Covered: flags are told only of audits that know no hidden label and are made of every verified
method alike. The others (does the claim hold, teacher ablation, above the ceiling) compare figures
on hidden rows, or are made of the best methods first: such a flag would be a bit about a figure.
Not covered: what people write to AARs. A method that fails on purpose tells its AAR one bit about
the hidden inputs that it was given, which hold no label.
"""

from collections.abc import Collection, Iterable
from typing import Literal

from aarlab.core.wire import Audit, AuditKind, Verification

MethodState = Literal["queued", "verified", "failed", "flagged"]
TOLD: frozenset[AuditKind] = frozenset({"execution", "shortcut", "copy", "static"})


def flags_of(audits: Iterable[Audit], accepted: Collection[str]) -> set[tuple[str, str | None]]:
    """Return snapshot and task (None: any) of the suspect findings that AARs are told of.

    `accepted` are snapshots that a person accepted after all.
    """
    return {
        (audit.snapshot, audit.task)
        for audit in audits
        if audit.severity == "suspect"
        and audit.kind in TOLD
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
