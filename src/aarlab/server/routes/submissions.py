"""Predictions on the search split in, shaped score out."""

from fastapi import APIRouter

from aarlab.core.wire import Score, ShownScore, Submission
from aarlab.server.auth import CallerDep
from aarlab.server.middleware import StrictRoute
from aarlab.server.paging import PageDep
from aarlab.server.service import submissions
from aarlab.server.writes import KeyDep

router = APIRouter(prefix="/v1", route_class=StrictRoute)


@router.post("/submissions", responses={402: {}, 424: {}})
async def submit(submission: Submission, caller: CallerDep, key: KeyDep) -> Score:
    """Submit predictions.

    It costs one submission of the budget; a refused one is free.
    """
    return await submissions.submit(caller, submission, key)


@router.get("/submissions")
async def own_submissions(caller: CallerDep, page: PageDep) -> list[ShownScore]:
    """List the own submissions with the scores that were shown, oldest first."""
    return page.of(await submissions.shown(caller, page.after, page.limit))
