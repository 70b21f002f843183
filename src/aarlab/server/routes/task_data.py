"""Routes for clients without campaign files: rows, weak labels, rules, contract, notes."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query

from aarlab.agents.external import texts
from aarlab.core.wire_service import MAX_CURSOR
from aarlab.core.wire_task import (
    MAX_LABELS_ASKED,
    MAX_ROWS_ASKED,
    MethodContract,
    Note,
    PublicSplit,
    RowPage,
    Text,
    WeakLabelPage,
)
from aarlab.server import task_rows
from aarlab.server.auth import AarDep, PlatformDep
from aarlab.server.bodies import StrictRoute

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
    _aar: AarDep,
    platform: PlatformDep,
    split: Annotated[PublicSplit, Query(description="rows with weak labels, or for feedback")],
    after: After = 0,
    limit: Rows = 100,
) -> RowPage:
    """Inputs of the train or the search split of a development task, page by page."""
    return await task_rows.read_rows(platform, task, split, after, limit)


@router.get("/tasks/{task}/weak-labels")
async def weak_labels(
    task: str,
    _aar: AarDep,
    platform: PlatformDep,
    teacher_seed: Seed = None,
    after: After = 0,
    limit: Labels = 1000,
) -> WeakLabelPage:
    """P(label 1) by one public weak teacher for the train rows, page by page."""
    return await task_rows.weak_labels(platform, task, teacher_seed, after, limit)


@router.get("/rules")
async def rules(aar: AarDep) -> Text:
    """What is asked, scored and forbidden, for this AAR."""
    return Text(text=texts.rules_text(aar.name, aar.direction))


@router.get("/contract")
async def contract(_aar: AarDep) -> MethodContract:
    """What a method must be, with one that works, and the libraries it can import."""
    return await asyncio.to_thread(texts.method_contract)


@router.get("/notes")
async def notes(_aar: AarDep) -> list[Note]:
    """The background notes."""
    return [texts.note(name) for name in texts.note_names()]
