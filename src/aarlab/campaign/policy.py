"""Policy of verification: which methods are verified, and the last score of a campaign.

Verified are the best by exact search PGR, all baselines, and the guards. They are also re-run on
the held-out tasks, which no AAR has heard of, or only the best of them once they are ranked.
Ablations follow once the verified scores are there (verify.battery). The choice may use the exact
search score, which no AAR sees. The selection split stays unseen until the choice is made, and each
method is scored on it once.

The last score is the best-ranked method of each task on the certify split, once. Methods rank on
*selection*, so the figure of the best one is inflated by the choice. *Certify* was seen by no
choice. Each development task's best-ranked method of an AAR is scored there when all re-runs that
rank are done, while ablations may still be running.

Everything asked for is known to the platform under a key of its own. A campaign that was killed
therefore continues where it stopped and scores nothing twice. A method that became the best later,
in a campaign that was extended or after a verdict, is scored in its turn. What became of each task
is in the events, for `campaign status`.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aarlab.campaign.spec import CampaignSpec
from aarlab.campaign.watch import Certified
from aarlab.client.operator import OperatorClient
from aarlab.core.endings import plain_reason
from aarlab.core.errors import (
    AarlabError,
    BadInput,
    BaselineMissing,
    Conflict,
    Damaged,
    GapNotPositive,
    NotFound,
)
from aarlab.core.headline import standings_of
from aarlab.core.ledger import HOUR_S
from aarlab.core.verdicts import is_ranking_run
from aarlab.core.wire import CampaignExport, NewVerification, SubmissionRecord, Verification
from aarlab.core.wire_service import MethodRequest


def requested_verifications(
    requests: Sequence[MethodRequest], spec: CampaignSpec
) -> list[NewVerification]:
    """Return re-runs that AARs asked for, each within its budget of methods; oldest first."""
    return [
        _rerun(request.snapshot, task, spec)
        for request in requests
        if request.state == "queued"
        for task in (spec.tasks if request.task is None else [request.task])
    ]


def wanted_verifications(export: CampaignExport, spec: CampaignSpec) -> list[NewVerification]:
    """Return re-runs of the top methods of each task, arm and replicate, all baselines and guards.

    They are on every task, or with `held_out_top` on the development tasks.
    """
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
    everywhere = [*spec.tasks, *(spec.held_out if spec.verify.held_out_top is None else ())]
    return [_rerun(snapshot, task, spec) for task in everywhere for snapshot in chosen]


def held_out_verifications(export: CampaignExport, spec: CampaignSpec) -> list[NewVerification]:
    """Return re-runs on the held-out tasks; none without `held_out_top`.

    They are of each task's best-ranked methods and its best hand-tuned baseline.
    """
    chosen: dict[str, None] = {}
    for task in spec.tasks if spec.verify.held_out_top is not None else ():
        board = standings_of(export, task).board
        ranked = [line for line in board if line.rank is not None][: spec.verify.held_out_top]
        human = [line for line in board if line.role == "human" and not line.kept_out]
        best = sorted(human, key=lambda line: -line.estimate.value)[:1]
        chosen |= dict.fromkeys(line.run.snapshot for line in (*ranked, *best))
    return [_rerun(snapshot, task, spec) for task in spec.held_out for snapshot in chosen]


def _best_first(submissions: list[SubmissionRecord]) -> list[SubmissionRecord]:
    """Return one submission per snapshot, highest exact search PGR first."""
    best: dict[str, SubmissionRecord] = {}
    for submission in sorted(submissions, key=lambda s: -s.exact.value):
        best.setdefault(submission.snapshot or "", submission)
    return list(best.values())


def _rerun(snapshot: str, task: str, spec: CampaignSpec) -> NewVerification:
    return NewVerification(snapshot=snapshot, task=task, n_seeds=spec.verify.seeds)


IMPOSSIBLE = (BaselineMissing, GapNotPositive, NotFound, BadInput, Conflict, Damaged)


class Best(NamedTuple):
    """The best-ranked method of a task, and its certify run if it has one."""

    snapshot: str
    name: str
    run: Verification | None


def best_of(export: CampaignExport, task: str) -> Best | None:
    """Return the best-ranked method of an AAR on a task; None if no method ranks."""
    found = standings_of(export, task)
    line = next((line for line in found.board if line.rank is not None), None)
    if line is None:
        return None
    snapshot = line.run.snapshot
    runs = [
        run
        for run in export.verifications
        if (run.snapshot, run.task, run.split, run.ablation) == (snapshot, task, "certify", "none")
    ]
    # A re-run by hand may stand next to one that failed: the one that is done counts.
    run = next((run for run in runs if run.state == "done"), runs[-1] if runs else None)
    return Best(snapshot, found.names.get(snapshot, line.run.method), run)


def ranked(operator: OperatorClient) -> bool:
    """Return whether no re-run that ranks is queued; False while the platform does not answer."""
    try:
        return not any(is_ranking_run(run) for run in operator.verifications("queued"))
    except (AarlabError, OSError):
        return False  # the server is being started again


def certify_best(operator: OperatorClient, tasks: list[str], seeds: int) -> Iterator[Certified]:
    """Queue the certify run of each task's best-ranked method unless it has one; say what is."""
    export = operator.export()
    for task in tasks:
        best = best_of(export, task)
        if best is None:
            yield Certified(task=task, state="skipped", why="no method of an AAR ranks")
            continue
        if best.run is not None:
            continue  # reported with its result, below
        wanted = NewVerification(snapshot=best.snapshot, task=task, split="certify", n_seeds=seeds)
        try:
            operator.request_verification(wanted, key=wanted.key)
        except IMPOSSIBLE as error:
            why = plain_reason(str(error))
            yield Certified(task=task, state="skipped", method=best.name, why=why)
        else:
            yield Certified(task=task, state="queued", method=best.name, seeds=seeds)


def results(export: CampaignExport, tasks: list[str]) -> Iterator[Certified]:
    """Report what came of the certify runs of the best-ranked methods."""
    for task in tasks:
        best = best_of(export, task)
        if best is None or best.run is None or best.run.state == "queued":
            continue
        run = best.run
        yield Certified(
            task=task,
            state=run.state,
            method=best.name,
            seeds=len(run.run_seeds),
            seconds=run.seconds,
            dollars=run.seconds / HOUR_S * export.budget.device_dollars_per_hour,
            why=plain_reason(run.error),
        )
