"""Requests of AARs that the platform verify a snapshot; what came of them is in verifications.

AARs learn states only (core.feedback); lines of the leaderboard go to the operator.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import now_iso
from aarlab.core.errors import Conflict, NotFound
from aarlab.core.feedback import flags_of, is_ranking_run, state_of
from aarlab.core.ids import new_id
from aarlab.core.wire import NewAar, Verification
from aarlab.core.wire_service import MethodRecord, MethodRequest, NewMethod, VerifiedMethod
from aarlab.store import audits, verifications
from aarlab.store.board import board, short_names_of
from aarlab.store.tables import method_submissions as requests
from aarlab.store.teams import Team


class Outcome(NamedTuple):
    """What became of all methods."""

    runs: list[Verification]
    decided: audits.Decided
    flags: set[tuple[str, str | None]]


async def add(tx: AsyncConnection, aar: str, new: NewMethod) -> MethodRequest:
    """Raises Conflict where the same was asked before."""
    same = (requests.c.snapshot == new.snapshot, requests.c.task.is_not_distinct_from(new.task))
    if await tx.scalar(select(requests.c.id).where(*same)) is not None:
        raise Conflict(f"verification of {new.snapshot} was asked for already: GET /v1/methods")
    made, at = new_id("mth"), now_iso()
    await tx.execute(insert(requests).values(id=made, aar=aar, at=at, **new.model_dump()))
    return MethodRequest(id=made, aar=aar, at=at, state="queued", **new.model_dump())


async def listed(
    tx: AsyncConnection, tasks: list[str], aar: NewAar, after: int, limit: int | None
) -> list[tuple[int, MethodRequest]]:
    """List an AAR's requests with cursors, oldest first, one more than `limit` if there are more.

    States come from runs on `tasks` (development tasks) only.
    """
    rows, outcome = await _rows(tx, aar, after, limit), await _outcome(tx, aar.team)
    return [(row.seq, _shown(row, outcome, tasks)) for row in rows]


async def records(
    tx: AsyncConnection, tasks: list[str], after: int, limit: int | None
) -> list[tuple[int, MethodRecord]]:
    """List the requests of all AARs as `listed` does, with their lines of the leaderboard."""
    rows, outcome = await _rows(tx, None, after, limit), await _outcome(tx, None)
    lines = await board(tx, outcome.runs, tasks, outcome.decided)
    found = []
    for row in rows:
        shown = _shown(row, outcome, tasks)
        scores = [
            line
            for line in lines
            if line.snapshot == row.snapshot and row.task in (None, line.task)
        ]
        ran = scores if shown.state in ("verified", "flagged") else []
        found.append((row.seq, MethodRecord(**shown.model_dump(), scores=ran)))
    return found


async def verified(tx: AsyncConnection, tasks: Sequence[str], team: Team) -> list[VerifiedMethod]:
    """List the methods of a team that were run on `tasks`: by task, then as they were frozen.

    That order, unlike the one in which they were run or rank, says nothing about a figure. Only
    methods whose verification was asked for are listed: others are run for their exact score on
    search, which no AAR may know.
    """
    outcome, of = await _outcome(tx, team), defaultdict[tuple[str, str], list[Verification]](list)
    listed = set(await tx.scalars(select(requests.c.snapshot))) - outcome.decided.unranked
    for run in outcome.runs:
        if is_ranking_run(run) and run.state != "queued" and run.snapshot in listed:
            of[run.task, run.snapshot].append(run)
    names = await short_names_of(tx)
    return [
        VerifiedMethod(
            snapshot=snapshot,
            aar=runs[0].aar,
            method=runs[0].method,
            short=short,
            task=task,
            state=state_of(runs, outcome.flags),
        )
        for task in tasks
        for snapshot, short in names.items()
        if (runs := of.get((task, snapshot)))
    ]


async def refuse(tx: AsyncConnection, request: str, reason: str) -> None:
    """Raises NotFound."""
    this = requests.c.id == request
    done = await tx.execute(update(requests).where(this).values(refused=reason))
    if done.rowcount == 0:
        raise NotFound(f"no request {request[:60]!r}: see GET /v1/operator/methods")


async def _rows(
    tx: AsyncConnection, aar: NewAar | None, after: int, limit: int | None
) -> Sequence[Row[Any]]:
    query = select(requests).where(requests.c.seq > after).order_by(requests.c.seq)
    query = query if aar is None else query.where(requests.c.aar == aar.name)
    return (await tx.execute(query if limit is None else query.limit(limit + 1))).all()


async def _outcome(tx: AsyncConnection, team: Team) -> Outcome:
    decided = await audits.decided(tx)
    flags = flags_of(await audits.all_audits(tx), decided.accepted)
    return Outcome(await verifications.seen(tx, team), decided, flags)


def _shown(row: Any, outcome: Outcome, tasks: list[str]) -> MethodRequest:
    asked = [task for task in tasks if row.task in (None, task)]
    mine = [run for run in outcome.runs if run.snapshot == row.snapshot and run.task in asked]
    shown = {name: getattr(row, name) for name in ("id", "aar", "snapshot", "task", "note", "at")}
    if row.refused is not None:
        return MethodRequest(**shown, state="refused", reason=row.refused)
    if row.snapshot in outcome.decided.unranked:
        return MethodRequest(**shown, state="refused", reason="a verdict keeps it from ranking")
    return MethodRequest(**shown, state=state_of(mine, outcome.flags))
