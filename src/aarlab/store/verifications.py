"""Verifications, audits, verdicts and the requests of AARs.

Verifications are queued by the operator and run by the verifier. Audits and verdicts are only
added, never changed; of several verdicts the latest counts. The leaderboard is built from the
tables by the rule of `core.ranking`.

AARs request that the platform verify a snapshot. They learn states only (core.feedback); lines of
the leaderboard go to the operator.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import now_iso
from aarlab.core.errors import BadInput, Conflict, NotFound
from aarlab.core.ids import draw_seeds, new_id
from aarlab.core.ranking import Made, Role, leaderboard, role_of, short_names
from aarlab.core.verdicts import Worked, flags_of, in_force, is_ranking_run, standing, state_of
from aarlab.core.wire import (
    Audit,
    CaseVerdict,
    LeaderboardEntry,
    NewAar,
    NewAudit,
    NewCaseVerdict,
    NewVerdict,
    NewVerification,
    Predictions,
    Snapshot,
    Verdict,
    Verification,
)
from aarlab.core.wire_service import MethodRecord, MethodRequest, NewMethod, VerifiedMethod
from aarlab.store import aars, overview
from aarlab.store.aars import Team
from aarlab.store.submissions import pack_predictions
from aarlab.store.tables import (
    audits,
    case_verdicts,
    snapshots,
    submissions,
    verdicts,
    verifications,
)
from aarlab.store.tables import method_submissions as tables_method_submissions


async def add(tx: AsyncConnection, wanted: NewVerification, snapshot: Snapshot) -> Verification:
    """Queue a re-run.

    Its seeds are drawn here, so no snapshot can have been made for them.
    """
    queued = Verification(
        id=new_id("ver"),
        snapshot=snapshot.id,
        aar=snapshot.aar,
        method=snapshot.name,
        task=wanted.task,
        split=wanted.split,
        ablation=wanted.ablation,
        run_seeds=draw_seeds(wanted.n_seeds),
        state="queued",
        at=now_iso(),
    )
    await tx.execute(
        insert(verifications).values(
            id=queued.id, state=queued.state, record=queued.model_dump(mode="json")
        )
    )
    return queued


async def get(tx: AsyncConnection, verification: str) -> Verification:
    query = select(verifications.c.record).where(verifications.c.id == verification)
    row = (await tx.execute(query)).first()
    if row is None:
        raise NotFound(f"no verification {verification[:60]!r}")
    return Verification.model_validate(row.record)


async def in_state(tx: AsyncConnection, state: str | None = None) -> list[Verification]:
    """Return re-runs, oldest first; all of them without a state."""
    query = select(verifications.c.record).order_by(verifications.c.seq)
    if state is not None:
        query = query.where(verifications.c.state == state)
    return [Verification.model_validate(row.record) for row in await tx.execute(query)]


async def seen(
    tx: AsyncConnection, team: aars.Team, state: str | None = None
) -> list[Verification]:
    """Return re-runs of a team's methods; of all with None."""
    found = await in_state(tx, state)
    if team is None:
        return found
    members = await aars.team_members(tx, team)
    return [run for run in found if run.aar in members]


async def settle(
    tx: AsyncConnection, settled: Verification, predictions: Predictions | None
) -> None:
    await tx.execute(
        update(verifications)
        .where(verifications.c.id == settled.id)
        .values(
            state=settled.state,
            record=settled.model_dump(mode="json"),
            predictions=None if predictions is None else pack_predictions(predictions),
        )
    )


async def scored_before(tx: AsyncConnection, wanted: NewVerification) -> bool:
    """Return whether a snapshot has had a re-run like this one, done or queued.

    "Like" means of the same kind, on the same task and split.
    """
    return any(
        (v.snapshot, v.task, v.split, v.ablation)
        == (wanted.snapshot, wanted.task, wanted.split, wanted.ablation)
        and v.state != "failed"
        for v in await in_state(tx)
    )


async def add_audit(tx: AsyncConnection, new: NewAudit) -> Audit:
    made = Audit(id=new_id("aud"), at=now_iso(), **new.model_dump())
    record = made.model_dump(mode="json")
    await tx.execute(insert(audits).values(id=made.id, snapshot=made.snapshot, record=record))
    return made


async def add_verdict(tx: AsyncConnection, new: NewVerdict) -> Verdict:
    """Record a verdict. The caller has checked that the snapshot exists."""
    made = Verdict(id=new_id("vdt"), at=now_iso(), **new.model_dump())
    record = made.model_dump(mode="json")
    await tx.execute(insert(verdicts).values(id=made.id, snapshot=made.snapshot, record=record))
    return made


async def add_case_verdict(tx: AsyncConnection, new: NewCaseVerdict) -> CaseVerdict:
    """Record a verdict on a finding.

    Raises NotFound for an unknown finding, BadInput for one that is about a snapshot.
    """
    record = await tx.scalar(select(audits.c.record).where(audits.c.id == new.audit))
    if record is None:
        raise NotFound(f"no finding {new.audit[:64]!r}; `aarlab audit list` shows them")
    about = Audit.model_validate(record)
    if about.snapshot is not None:
        raise BadInput(
            f"finding {about.id} is about snapshot {about.snapshot[:12]}: give that one a verdict"
        )
    if new.disqualifies == "task" and about.task is None:
        raise BadInput(f"finding {about.id} names no task: disqualify all or nothing")
    given = {"aar": about.aar, "task": about.task, **new.model_dump()}
    made = CaseVerdict(id=new_id("cvt"), at=now_iso(), **given)
    values = {"id": made.id, "audit": made.audit, "record": made.model_dump(mode="json")}
    await tx.execute(insert(case_verdicts).values(values))
    return made


async def all_audits(tx: AsyncConnection, snapshot: str | None = None) -> list[Audit]:
    query = select(audits.c.record).order_by(audits.c.seq)
    if snapshot is not None:
        query = query.where(audits.c.snapshot == snapshot)
    return [Audit.model_validate(row.record) for row in await tx.execute(query)]


async def all_verdicts(tx: AsyncConnection) -> list[Verdict]:
    rows = await tx.execute(select(verdicts.c.record).order_by(verdicts.c.seq))
    return [Verdict.model_validate(row.record) for row in rows]


async def all_case_verdicts(tx: AsyncConnection) -> list[CaseVerdict]:
    rows = await tx.execute(select(case_verdicts.c.record).order_by(case_verdicts.c.seq))
    return [CaseVerdict.model_validate(row.record) for row in rows]


async def standing_verdicts(tx: AsyncConnection) -> dict[str, list[Verdict]]:
    """Return by snapshot what verdicts it got, oldest first.

    Confirmed findings that cover it are among them.
    """
    cases = await all_case_verdicts(tx)
    worked = [work for case in in_force(cases) for work in await _worked(tx, case.aar)]
    return standing(await all_verdicts(tx), cases, worked)


class Decided(NamedTuple):
    """Snapshots by their latest verdict: kept from ranking, or accepted by a person."""

    unranked: frozenset[str]
    accepted: frozenset[str]


async def decisions(tx: AsyncConnection) -> Decided:
    """Return which snapshots a person accepted and which a verdict keeps from ranking."""
    last = {s: those[-1].decision for s, those in (await standing_verdicts(tx)).items()}
    accepted = frozenset(s for s, said in last.items() if said == "accepted")
    return Decided(frozenset(last) - accepted, accepted)


async def _worked(tx: AsyncConnection, aar: str) -> Iterator[Worked]:
    """Yield an AAR's snapshots with the tasks on which each was submitted or re-run."""
    own = select(snapshots.c.id).where(snapshots.c.aar == aar)
    sent = select(submissions.c.task, submissions.c.snapshot).distinct()
    rows = [*await tx.execute(sent.where(submissions.c.snapshot.in_(own)))]
    record = verifications.c.record
    task, snapshot = record["task"].as_string(), record["snapshot"].as_string()
    rows += [*await tx.execute(select(task, snapshot).where(snapshot.in_(own)))]
    return (Worked(aar, *row) for row in rows)


async def board(
    tx: AsyncConnection,
    runs: Sequence[Verification],
    tasks: Sequence[str],
    decided: Decided,
) -> list[LeaderboardEntry]:
    """Rank re-runs, task by task, by what persons decided about their snapshots."""
    names, roles = await short_names_of(tx), await _roles(tx)
    return leaderboard(runs, tasks, decided.unranked, roles, names, decided.accepted)


async def short_names_of(tx: AsyncConnection) -> dict[str, str]:
    """Return the short names of all snapshots, in the order in which they were frozen."""
    columns = (snapshots.c.id, snapshots.c.aar, snapshots.c.record["name"].as_string())
    found = await tx.execute(select(*columns).order_by(snapshots.c.seq))
    return short_names((Made(*row) for row in found), await _roles(tx))


async def _roles(tx: AsyncConnection) -> dict[str, Role]:
    return {aar.name: role_of(aar.researcher, aar.arm) for aar in await overview.registered(tx)}


class Outcome(NamedTuple):
    """What became of all methods."""

    runs: list[Verification]
    decided: Decided
    flags: set[tuple[str, str | None]]


async def add_request(tx: AsyncConnection, aar: str, new: NewMethod) -> MethodRequest:
    """Record a request. Raises Conflict if the same was asked before."""
    same = (
        tables_method_submissions.c.snapshot == new.snapshot,
        tables_method_submissions.c.task.is_not_distinct_from(new.task),
    )
    if await tx.scalar(select(tables_method_submissions.c.id).where(*same)) is not None:
        raise Conflict(f"verification of {new.snapshot} was asked for already: GET /v1/methods")
    made, at = new_id("mth"), now_iso()
    await tx.execute(
        insert(tables_method_submissions).values(id=made, aar=aar, at=at, **new.model_dump())
    )
    return MethodRequest(id=made, aar=aar, at=at, state="queued", **new.model_dump())


async def requests_of(
    tx: AsyncConnection, tasks: list[str], aar: NewAar, after: int, limit: int | None
) -> list[tuple[int, MethodRequest]]:
    """List an AAR's requests with cursors, oldest first, one more than `limit` if there are more.

    States come from runs on `tasks` (development tasks) only.
    """
    rows, outcome = await _rows(tx, aar, after, limit), await _outcome(tx, aar.team)
    return [(row.seq, _shown(row, outcome, tasks)) for row in rows]


async def requests(
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
    listed = (
        set(await tx.scalars(select(tables_method_submissions.c.snapshot)))
        - outcome.decided.unranked
    )
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


async def refuse_request(tx: AsyncConnection, request: str, reason: str) -> None:
    """Refuse a request. Raises NotFound."""
    this = tables_method_submissions.c.id == request
    done = await tx.execute(update(tables_method_submissions).where(this).values(refused=reason))
    if done.rowcount == 0:
        raise NotFound(f"no request {request[:60]!r}: see GET /v1/operator/methods")


async def _rows(
    tx: AsyncConnection, aar: NewAar | None, after: int, limit: int | None
) -> Sequence[Row[Any]]:
    query = (
        select(tables_method_submissions)
        .where(tables_method_submissions.c.seq > after)
        .order_by(tables_method_submissions.c.seq)
    )
    query = query if aar is None else query.where(tables_method_submissions.c.aar == aar.name)
    return (await tx.execute(query if limit is None else query.limit(limit + 1))).all()


async def _outcome(tx: AsyncConnection, team: Team) -> Outcome:
    decided = await decisions(tx)
    flags = flags_of(await all_audits(tx), decided.accepted)
    return Outcome(await seen(tx, team), decided, flags)


def _shown(row: Any, outcome: Outcome, tasks: list[str]) -> MethodRequest:
    asked = [task for task in tasks if row.task in (None, task)]
    mine = [run for run in outcome.runs if run.snapshot == row.snapshot and run.task in asked]
    shown = {name: getattr(row, name) for name in ("id", "aar", "snapshot", "task", "note", "at")}
    if row.refused is not None:
        return MethodRequest(**shown, state="refused", reason=row.refused)
    if row.snapshot in outcome.decided.unranked:
        return MethodRequest(**shown, state="refused", reason="a verdict keeps it from ranking")
    return MethodRequest(**shown, state=state_of(mine, outcome.flags))
