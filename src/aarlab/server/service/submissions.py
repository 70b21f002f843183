"""Predictions on the search split in, shaped score out."""

import asyncio
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import now_iso
from aarlab.core.errors import Forbidden
from aarlab.core.ids import new_id
from aarlab.core.wire import Feedback, Predictions, Score, ShownScore, Submission
from aarlab.server.service.caller import Caller
from aarlab.server.tasks import check_development
from aarlab.server.writes import write_once
from aarlab.store import aars, log, snapshots, standing, submissions

SMALL = 5000  # probabilities that are scored in a few ms, where a hand-over costs as much


async def submit(caller: Caller, submission: Submission, key: str) -> Score:
    """Score predictions and record them, in one transaction.

    Costs one submission of the budget; a refusal costs nothing. Raises Forbidden for a snapshot of
    another AAR.
    """
    platform, aar = caller.platform, caller.aar
    writing = caller.writing("POST /v1/submissions", key, submission)

    async def act(tx: AsyncConnection) -> Score:
        check_development(platform, submission.task)
        if submission.snapshot is not None:
            made_by = await snapshots.get(tx, submission.snapshot, aar.team)
            if made_by.aar != aar.name:
                raise Forbidden("this snapshot is another AAR's: freeze the code as your own first")
        await aars.touch(tx, aar.name, caller.supervised)
        now = await standing.standing(tx, aar.name)
        standing.check(now)
        feedback = await _feedback(tx, caller, submission)
        left = standing.me(now).submissions_left
        score = Score(
            **feedback.model_dump(),
            submission=new_id("sub"),
            submissions_left=None if left is None else left - 1,
            isolation=aar.isolation,
            exact_feedback=platform.settings.exact_feedback,
        )
        at = now_iso()
        await submissions.add(tx, aar.name, submission, score, at)
        entry = {
            "id": score.submission,
            "aar": aar.name,
            "task": submission.task,
            "method": submission.method,
            "snapshot": submission.snapshot,
            "predictions_sha256": writing.content_sha256,
        }
        shown = score.model_dump(mode="json")
        await log.append_all(tx, [("submission", entry), ("score", shown)], at)
        return score

    return await write_once(writing, Score, act)


async def _feedback(tx: AsyncConnection, caller: Caller, submission: Submission) -> Feedback:
    platform = caller.platform
    best = await submissions.best(tx, caller.aar.name, submission.task)
    new = Predictions(submission.ids, submission.runs)
    score = partial(
        platform.scorer.feedback, submission.task, new, best, platform.settings.exact_feedback
    )
    small = sum(len(run.probs) for run in submission.runs) <= SMALL
    return score() if small else await asyncio.to_thread(score)


async def shown(
    caller: Caller, after: int = 0, limit: int | None = None
) -> list[tuple[int, ShownScore]]:
    """List the caller's own submissions with their cursors, oldest first."""
    async with caller.platform.store.database.read() as tx:
        return await submissions.shown(tx, caller.aar.name, after, limit)
