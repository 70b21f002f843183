"""Which methods are verified: the best by exact search PGR, the best baseline, and the guards.

The choice may use the exact search score, which no AAR sees; the selection split stays unseen until
the choice is made, and each method is scored on it once.
"""

from aarlab.campaign.spec import CampaignSpec
from aarlab.core.wire import CampaignExport, NewVerification, SubmissionRecord


def wanted_verifications(export: CampaignExport, spec: CampaignSpec) -> list[NewVerification]:
    """Re-runs of the top methods, all baselines and guards; permuted ablations of the very top."""
    role = {aar.name: aar.role for aar in spec.aars}
    wanted: list[NewVerification] = []
    for task in spec.tasks:
        ranked = _best_first([s for s in export.submissions if s.task == task and s.snapshot])
        top = [s for s in ranked if role[s.aar] == "aar"][: spec.verify.top]
        fixed = [s for s in ranked if role[s.aar] != "aar"]
        wanted += [_rerun(s, spec, "none") for s in (*top, *fixed)]
        wanted += [_rerun(s, spec, "permuted") for s in top[: spec.verify.ablate_top]]
    return wanted


def _best_first(submissions: list[SubmissionRecord]) -> list[SubmissionRecord]:
    """One submission a snapshot, highest exact search PGR first."""
    best: dict[str, SubmissionRecord] = {}
    for submission in sorted(submissions, key=lambda s: -s.exact.value):
        best.setdefault(submission.snapshot or "", submission)
    return list(best.values())


def _rerun(submission: SubmissionRecord, spec: CampaignSpec, ablation: str) -> NewVerification:
    return NewVerification.model_validate(
        {
            "snapshot": submission.snapshot,
            "task": submission.task,
            "split": "selection",
            "ablation": ablation,
            "n_seeds": spec.verify.seeds,
        }
    )
