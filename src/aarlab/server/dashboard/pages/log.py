"""The log: its entries, whether each fits the one before, and the check of the whole chain."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from aarlab.core.hashing import GENESIS
from aarlab.core.wire import LogRecord
from aarlab.server.dashboard.desk import DeskDep
from aarlab.server.dashboard.log_check import link_fault, shown
from aarlab.server.dashboard.pages.campaign import Facts
from aarlab.server.dashboard.rendering import HEADERS, Text, page, part
from aarlab.server.dashboard.session import OperatorViewer
from aarlab.server.service.export import exported
from aarlab.store import log

router = APIRouter(include_in_schema=False)
SHOWN, MAX_BODY = 50, 4000
Before = Annotated[int | None, Query(ge=1, le=2**53)]


@router.get("/log")
async def entries(
    request: Request,
    desk: DeskDep,
    viewer: OperatorViewer,
    before: Before = None,
    kind: Text = None,
) -> Response:
    async with desk.platform.store.database.read() as tx:
        head = await log.head(tx)
        last = head.seq if before is None else min(before - 1, head.seq)
        if kind:
            found = await log.newest(tx, last, SHOWN, kind)
            shown_entries = [_plain(entry, None) for entry in found]
        else:
            # One more, for the hash that the first entry continues.
            found = (await log.entries(tx, max(last - SHOWN - 1, 0), SHOWN + 1))[::-1]
            found = [entry for entry in found if entry.seq <= last]
            shown_entries = _linked(found)
    older = found[SHOWN - 1].seq if len(found) >= SHOWN and found[SHOWN - 1].seq > 1 else None
    facts = {"head": head.model_dump(), "entries": shown_entries[:SHOWN], "older": older}
    return page(
        request, viewer, "log", {**facts, "kind": kind, "check": asdict(desk.log_check.state)}
    )


@router.get("/log/check")
async def check(
    request: Request, desk: DeskDep, viewer: OperatorViewer, again: bool = False
) -> Response:
    """Check the next part of the chain.

    The part of the page asks again until the check is done.
    """
    state = await desk.log_check.step(again)
    return part(request, viewer, "check", {"check": {**asdict(state), "done": state.done}})


@router.get("/log/export")
async def export(desk: DeskDep, _viewer: OperatorViewer) -> Response:
    """Return what `aarlab campaign export` writes, as a file without rows and labels."""
    made = await exported(desk.platform, ideas=True)
    headers = {**HEADERS, "Content-Disposition": 'attachment; filename="export.json"'}
    text = made.model_dump_json()
    return Response(text, headers=headers, media_type="application/json")


def _linked(found: list[LogRecord]) -> list[Facts]:
    """Return the entries, newest first.

    The last one is only there for its hash, unless it is the log's first.
    """
    links = zip(found, [*found[1:], None], strict=True)
    rows = []
    for entry, earlier in links:
        if earlier is None and entry.seq > 1:
            continue
        before = GENESIS if earlier is None else earlier.hash
        rows.append(_plain(entry, link_fault(before, entry.seq, entry)))
    return rows


def _plain(entry: LogRecord, fault: str | None) -> Facts:
    """Return an entry as facts. `fault` is None if it was not checked."""
    return {**entry.model_dump(), "text": shown(entry.body)[:MAX_BODY], "fault": fault}
