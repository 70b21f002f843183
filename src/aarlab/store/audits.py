"""Audits and verdicts: only added, never changed; of several verdicts the latest counts."""

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import now_iso
from aarlab.core.errors import BadInput, NotFound
from aarlab.core.ids import new_id
from aarlab.core.verdicts import Worked, in_force, standing
from aarlab.core.wire import (
    Audit,
    CaseVerdict,
    NewAudit,
    NewCaseVerdict,
    NewVerdict,
    Verdict,
)
from aarlab.store.tables import (
    audits,
    case_verdicts,
    snapshots,
    submissions,
    verdicts,
    verifications,
)


async def add_audit(tx: AsyncConnection, new: NewAudit) -> Audit:
    made = Audit(id=new_id("aud"), at=now_iso(), **new.model_dump())
    record = made.model_dump(mode="json")
    await tx.execute(insert(audits).values(id=made.id, snapshot=made.snapshot, record=record))
    return made


async def add_verdict(tx: AsyncConnection, new: NewVerdict) -> Verdict:
    """The caller has checked that the snapshot exists."""
    made = Verdict(id=new_id("vdt"), at=now_iso(), **new.model_dump())
    record = made.model_dump(mode="json")
    await tx.execute(insert(verdicts).values(id=made.id, snapshot=made.snapshot, record=record))
    return made


async def add_case_verdict(tx: AsyncConnection, new: NewCaseVerdict) -> CaseVerdict:
    """Raises NotFound for an unknown finding, BadInput for one that is about a snapshot."""
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
    """By snapshot what was given to it, and the confirmed findings that cover it, oldest first."""
    cases = await all_case_verdicts(tx)
    worked = [work for case in in_force(cases) for work in await _worked(tx, case.aar)]
    return standing(await all_verdicts(tx), cases, worked)


class Decided(NamedTuple):
    """Snapshots by their latest verdict: kept from ranking, or accepted by a person."""

    unranked: frozenset[str]
    accepted: frozenset[str]


async def decided(tx: AsyncConnection) -> Decided:
    """Return which snapshots a person accepted and which a verdict keeps from ranking."""
    last = {s: those[-1].decision for s, those in (await standing_verdicts(tx)).items()}
    accepted = frozenset(s for s, said in last.items() if said == "accepted")
    return Decided(frozenset(last) - accepted, accepted)


async def _worked(tx: AsyncConnection, aar: str) -> Iterator[Worked]:
    """An AAR's snapshots with the tasks on which each was submitted or re-run."""
    own = select(snapshots.c.id).where(snapshots.c.aar == aar)
    sent = select(submissions.c.task, submissions.c.snapshot).distinct()
    rows = [*await tx.execute(sent.where(submissions.c.snapshot.in_(own)))]
    record = verifications.c.record
    task, snapshot = record["task"].as_string(), record["snapshot"].as_string()
    rows += [*await tx.execute(select(task, snapshot).where(snapshot.in_(own)))]
    return (Worked(aar, *row) for row in rows)
