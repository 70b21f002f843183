"""Predictions on the search split in, shaped score out."""

import asyncio
from functools import partial

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import now_iso
from aarlab.core.errors import Forbidden
from aarlab.core.ids import new_id
from aarlab.core.wire import NewAar, Predictions, Score, ShownScore, Submission
from aarlab.server.auth import AarDep, PlatformDep, by_supervisor
from aarlab.server.bodies import StrictRoute
from aarlab.server.paging import PageDep
from aarlab.server.platform import Feedback, Platform
from aarlab.server.tasks import check_development
from aarlab.server.writes import KeyDep, Writing, write_once, writing
from aarlab.store import aars, log, snapshots, standing, submissions

router = APIRouter(prefix="/v1", route_class=StrictRoute)
SMALL = 5000  # probabilities that are scored in a few ms, where a hand-over costs as much


@router.post("/submissions", responses={402: {}, 424: {}})
async def submit(
    submission: Submission, request: Request, aar: AarDep, platform: PlatformDep, key: KeyDep
) -> Score:
    """Costs one submission of the budget; what is refused costs nothing."""
    wanted = writing(platform, aar.name, key, request, submission)
    vouched = by_supervisor(request, platform, aar.name)
    return await score_predictions(aar, wanted, submission, vouched)


async def score_predictions(
    aar: NewAar, wanted: Writing, submission: Submission, vouched: bool = False
) -> Score:
    """Score predictions submitted through the route, an MCP tool or a trial.

    `vouched` says that the call comes from the AAR's supervisor, which counts its research hours.
    """
    platform = wanted.platform

    async def act(tx: AsyncConnection) -> Score:
        check_development(platform, submission.task)
        if submission.snapshot is not None:
            made_by = await snapshots.get(tx, submission.snapshot, aar.team)
            if made_by.aar != aar.name:
                raise Forbidden("this snapshot is another AAR's: freeze the code as your own first")
        await aars.touch(tx, aar.name, vouched)
        now = await standing.standing(tx, aar.name)
        standing.check(now)
        feedback = await _feedback(tx, platform, aar, submission)
        left = standing.me(now).submissions_left
        left = None if left is None else left - 1
        score = _score(platform, aar, feedback, left)
        await _record(tx, aar, submission, score, wanted.content_sha256)
        return score

    return await write_once(wanted, Score, act)


@router.get("/submissions")
async def own_submissions(aar: AarDep, platform: PlatformDep, page: PageDep) -> list[ShownScore]:
    """The own submissions with the scores that were shown, oldest first."""
    return page.of(await shown_to(aar, platform, page.after, page.limit))


async def shown_to(
    aar: NewAar, platform: Platform, after: int = 0, limit: int | None = None
) -> list[tuple[int, ShownScore]]:
    """List an AAR's own submissions with their cursors."""
    async with platform.store.database.read() as tx:
        return await submissions.shown(tx, aar.name, after, limit)


async def _feedback(
    tx: AsyncConnection, platform: Platform, aar: NewAar, submission: Submission
) -> Feedback:
    best = await submissions.best(tx, aar.name, submission.task)
    new = Predictions(submission.ids, submission.runs)
    score = partial(
        platform.scorer.feedback, submission.task, new, best, platform.settings.exact_feedback
    )
    small = sum(len(run.probs) for run in submission.runs) <= SMALL
    return score() if small else await asyncio.to_thread(score)


def _score(platform: Platform, aar: NewAar, feedback: Feedback, left: int | None) -> Score:
    return Score(
        submission=new_id("sub"),
        pgr=feedback.pgr,
        stderr=feedback.stderr,
        n=feedback.n,
        step=feedback.step,
        improved=feedback.improved,
        submissions_left=left,
        isolation=aar.isolation,
        exact_feedback=platform.settings.exact_feedback,
    )


async def _record(
    tx: AsyncConnection, aar: NewAar, submission: Submission, score: Score, sha256: str
) -> None:
    at = now_iso()
    await submissions.add(tx, aar.name, submission, score, at)
    entry = {
        "id": score.submission,
        "aar": aar.name,
        "task": submission.task,
        "method": submission.method,
        "snapshot": submission.snapshot,
        "predictions_sha256": sha256,
    }
    shown = score.model_dump(mode="json")
    await log.append_all(tx, [("submission", entry), ("score", shown)], at)
