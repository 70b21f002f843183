"""Which methods are verified: the best by exact search PGR, all baselines, and the guards.

The best are also re-run on the held-out tasks, which no AAR has heard of; ablations follow once the
verified scores are there (verify.battery).

The choice may use the exact search score, which no AAR sees; the selection split stays unseen until
the choice is made, and each method is scored on it once.
"""

from collections.abc import Sequence

from aarlab.campaign.spec import CampaignSpec
from aarlab.core.wire import CampaignExport, NewVerification, SubmissionRecord
from aarlab.core.wire_service import MethodRequest


def requested_verifications(
    requests: Sequence[MethodRequest], spec: CampaignSpec
) -> list[NewVerification]:
    """Re-runs that AARs asked for, each within its budget of methods; oldest first."""
    return [
        _rerun(request.snapshot, task, spec)
        for request in requests
        if request.state == "queued"
        for task in (spec.tasks if request.task is None else [request.task])
    ]


def wanted_verifications(export: CampaignExport, spec: CampaignSpec) -> list[NewVerification]:
    """Re-runs of the top methods of each task, arm and replicate, of all baselines and guards, on
    every task."""
    of = {aar.name: aar for aar in spec.aars}
    chosen: dict[str, None] = {}  # in order, each once
    for task in spec.tasks:
        ranked = _best_first([s for s in export.submissions if s.task == task and s.snapshot])
        fixed = [s for s in ranked if of[s.aar].role != "aar"]
        found: dict[tuple[str, int], list[SubmissionRecord]] = {}
        for submission in ranked:
            if (aar := of[submission.aar]).role == "aar":
                found.setdefault((aar.arm, aar.replicate), []).append(submission)
        top = [s for each in found.values() for s in each[: spec.verify.top]]
        chosen |= dict.fromkeys(s.snapshot or "" for s in (*top, *fixed))
    everywhere = [*spec.tasks, *spec.held_out]
    return [_rerun(snapshot, task, spec) for task in everywhere for snapshot in chosen]


def _best_first(submissions: list[SubmissionRecord]) -> list[SubmissionRecord]:
    """One submission a snapshot, highest exact search PGR first."""
    best: dict[str, SubmissionRecord] = {}
    for submission in sorted(submissions, key=lambda s: -s.exact.value):
        best.setdefault(submission.snapshot or "", submission)
    return list(best.values())


def _rerun(snapshot: str, task: str, spec: CampaignSpec) -> NewVerification:
    return NewVerification(snapshot=snapshot, task=task, n_seeds=spec.verify.seeds)
