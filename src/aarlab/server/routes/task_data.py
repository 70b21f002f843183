"""Routes for clients without campaign files: rows, weak labels, rules, contract, notes."""

from typing import Annotated

from fastapi import APIRouter, Query

from aarlab.core.wire_service import (
    MAX_CURSOR,
    MAX_LABELS_ASKED,
    MAX_ROWS_ASKED,
    MethodContract,
    Note,
    PublicSplit,
    RowPage,
    Text,
    WeakLabelPage,
)
from aarlab.server.auth import CallerDep
from aarlab.server.middleware import StrictRoute
from aarlab.server.service import tasks

router = APIRouter(prefix="/v1", route_class=StrictRoute)
After = Annotated[int, Query(ge=0, le=MAX_CURSOR, description="`next_after` of the page before")]
Rows = Annotated[int, Query(ge=1, le=MAX_ROWS_ASKED, description="rows a page, at most")]
Labels = Annotated[int, Query(ge=1, le=MAX_LABELS_ASKED, description="labels a page, at most")]
Seed = Annotated[
    int | None,
    Query(ge=0, le=MAX_CURSOR, description="a public weak teacher; default: the first"),
]


@router.get("/tasks/{task}/rows")
async def rows(
    task: str,
    caller: CallerDep,
    split: Annotated[PublicSplit, Query(description="rows with weak labels, or for feedback")],
    after: After = 0,
    limit: Rows = 100,
) -> RowPage:
    """List inputs of the train or the search split of a development task, page by page."""
    return await tasks.rows(caller, task, split, after, limit)


@router.get("/tasks/{task}/weak-labels")
async def weak_labels(
    task: str,
    caller: CallerDep,
    teacher_seed: Seed = None,
    after: After = 0,
    limit: Labels = 1000,
) -> WeakLabelPage:
    """List P(label 1) by one public weak teacher for the train rows, page by page."""
    return await tasks.weak_labels(caller, task, teacher_seed, after, limit)


@router.get("/rules")
async def rules(caller: CallerDep) -> Text:
    """Return what is asked, scored and forbidden, for this AAR."""
    return tasks.rules(caller)


@router.get("/contract")
async def contract(caller: CallerDep) -> MethodContract:
    """Return what a method must be, with one that works, and the libraries it can import."""
    return await tasks.contract(caller)


@router.get("/notes")
async def notes(caller: CallerDep) -> list[Note]:
    """List the background notes."""
    return tasks.notes(caller)
