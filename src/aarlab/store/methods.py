"""Requests of AARs that the platform verify a snapshot; what came of them is in verifications."""

from typing import Any, NamedTuple

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import now_iso
from aarlab.core.errors import Conflict, NotFound
from aarlab.core.ids import new_id
from aarlab.core.wire import LeaderboardEntry, NewAar, Verification
from aarlab.core.wire_service import MethodRequest, NewMethod
from aarlab.store import audits, verifications
from aarlab.store.board import board
from aarlab.store.tables import method_submissions as requests


class Outcome(NamedTuple):
    """What became of all methods."""

    runs: list[Verification]
    board: list[LeaderboardEntry]
    unranked: frozenset[str]


async def add(tx: AsyncConnection, aar: str, new: NewMethod) -> MethodRequest:
    """Raises Conflict where the same was asked before."""
    same = (requests.c.snapshot == new.snapshot, requests.c.task.is_not_distinct_from(new.task))
    if await tx.scalar(select(requests.c.id).where(*same)) is not None:
        raise Conflict(f"verification of {new.snapshot} was asked for already: GET /v1/methods")
    made, at = new_id("mth"), now_iso()
    await tx.execute(insert(requests).values(id=made, aar=aar, at=at, **new.model_dump()))
    return MethodRequest(id=made, aar=aar, at=at, state="queued", **new.model_dump())


async def listed(
    tx: AsyncConnection, tasks: list[str], aar: NewAar | None, after: int, limit: int | None
) -> list[tuple[int, MethodRequest]]:
    """Oldest first with cursors, one more than `limit` where there are more; None: all AARs.

    States and scores come from runs on `tasks` (development tasks) only, ranks and the number of
    methods tried from those of the AAR's team.
    """
    query = select(requests).where(requests.c.seq > after).order_by(requests.c.seq)
    query = query if aar is None else query.where(requests.c.aar == aar.name)
    rows = (await tx.execute(query if limit is None else query.limit(limit + 1))).all()
    runs = await verifications.seen(tx, None if aar is None else aar.team)
    decided = await audits.decided(tx)
    outcome = Outcome(runs, await board(tx, runs, tasks, decided), decided.unranked)
    return [(row.seq, _shown(row, outcome, tasks)) for row in rows]


async def refuse(tx: AsyncConnection, request: str, reason: str) -> None:
    """Raises NotFound."""
    this = requests.c.id == request
    done = await tx.execute(update(requests).where(this).values(refused=reason))
    if done.rowcount == 0:
        raise NotFound(f"no request {request[:60]!r}: see GET /v1/operator/methods")


def _shown(row: Any, outcome: Outcome, tasks: list[str]) -> MethodRequest:
    asked = [task for task in tasks if row.task in (None, task)]
    mine = [
        run
        for run in outcome.runs
        if run.snapshot == row.snapshot
        and run.task in asked
        and (run.split, run.ablation) == ("selection", "none")
    ]
    states = {run.state for run in mine}
    shown = {name: getattr(row, name) for name in ("id", "aar", "snapshot", "task", "note", "at")}
    if row.refused is not None:
        return MethodRequest(**shown, state="refused", reason=row.refused)
    if row.snapshot in outcome.unranked:
        return MethodRequest(**shown, state="refused", reason="a verdict keeps it from ranking")
    if "done" in states:
        scores = [
            line for line in outcome.board if line.snapshot == row.snapshot and line.task in asked
        ]
        return MethodRequest(**shown, state="verified", scores=scores)
    if states == {"failed"}:
        return MethodRequest(**shown, state="refused", reason="its verification run failed")
    return MethodRequest(**shown, state="queued")
