"""The last score of a campaign: the best-ranked method of each task on the certify split, once.

Methods rank on *selection*, so the figure of the best one is inflated by the choice. *Certify* was
seen by no choice. Each development task's best-ranked method of an AAR is scored there when all
re-runs that rank are done, while ablations may still be running.

Everything asked for is known to the platform under a key of its own: a campaign that was killed
goes on where it stopped and scores nothing twice. A method that became the best later, in a
campaign that was extended or after a verdict, is scored in its turn. What became of each task is in
the events, for `campaign status`.
"""

from collections.abc import Iterator
from typing import NamedTuple

from aarlab.campaign.certified import Certified
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
from aarlab.core.feedback import is_ranking_run
from aarlab.core.headline import standings_of
from aarlab.core.ledger import HOUR_S
from aarlab.core.wire import CampaignExport, NewVerification, Verification

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
    # A re-run by hand may stand beside one that failed: the one that is done counts.
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
