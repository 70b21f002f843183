"""Transcripts: a list of them, and one of them page by page."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from aarlab.server.dashboard.desk import Desk, DeskDep
from aarlab.server.dashboard.pages.campaign import Facts
from aarlab.server.dashboard.rendering import Text, page
from aarlab.server.dashboard.session import OperatorViewer
from aarlab.server.dashboard.transcripts import Index

router = APIRouter(include_in_schema=False)
SHOWN, MAX_TEXT = 50, 20_000
Line = Annotated[int | None, Query(ge=0, le=2**40)]


@router.get("/transcripts")
async def transcripts(request: Request, desk: DeskDep, viewer: OperatorViewer) -> Response:
    async with desk.platform.store.database.read() as tx:
        await desk.memory.refresh(tx)
    names = [name for name in desk.memory.aars if desk.transcripts.exists(name)]
    rows = [_summary(desk, name, await desk.transcripts.open(name)) for name in names]
    without = [name for name in desk.memory.aars if name not in names]
    return page(request, viewer, "transcripts", {"transcripts": rows, "without": without})


def _summary(desk: Desk, aar: str, index: Index) -> Facts:
    last = desk.transcripts.last(aar)
    facts = {"aar": aar, "entries": index.n_lines, "bytes": index.starts[-1]}
    return {
        **facts,
        "direction": desk.memory.aars[aar].direction,
        "last": last and last.model_dump(),
    }


@router.get("/transcripts/{aar}")
async def transcript(
    aar: str,
    request: Request,
    desk: DeskDep,
    viewer: OperatorViewer,
    first: Line = None,
    q: Text = None,
) -> Response:
    """Show a page of entries.

    Without `first` it is the newest. With `q` it has the entries that hold its text.
    """
    index = await desk.transcripts.open(aar)
    facts: Facts = {"aar": aar, "n_lines": index.n_lines, "per_page": SHOWN, "q": q or ""}
    facts["logs"] = f"{desk.platform.settings.run_dir.aar(aar) / 'logs'}"
    if q:
        found = await desk.transcripts.search(aar, q, first or 0)
        entries = await desk.transcripts.lines(aar, found.lines)
        facts |= {"first": first or 0, "next_line": found.next_line}
    else:
        last_page = max(index.n_lines - 1, 0) // SHOWN * SHOWN
        start = last_page if first is None else first
        read, _ = await desk.transcripts.page(aar, start, SHOWN)
        entries = list(enumerate(read, start))
        facts |= {"first": start, "next_line": None}
    facts["entries"] = [
        {
            **entry.model_dump(),
            "line": line,
            "text": entry.text[:MAX_TEXT],
            "cut": max(len(entry.text) - MAX_TEXT, 0),
        }
        for line, entry in entries
    ]
    return page(request, viewer, "transcript", facts)
