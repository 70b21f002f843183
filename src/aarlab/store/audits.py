"""Audits and verdicts: only added, never changed; of several verdicts the latest counts."""

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import now_iso
from aarlab.core.ids import new_id
from aarlab.core.wire import Audit, NewAudit, NewVerdict, Verdict
from aarlab.store.tables import audits, verdicts


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


async def all_audits(tx: AsyncConnection, snapshot: str | None = None) -> list[Audit]:
    query = select(audits.c.record).order_by(audits.c.seq)
    if snapshot is not None:
        query = query.where(audits.c.snapshot == snapshot)
    return [Audit.model_validate(row.record) for row in await tx.execute(query)]


async def all_verdicts(tx: AsyncConnection) -> list[Verdict]:
    rows = await tx.execute(select(verdicts.c.record).order_by(verdicts.c.seq))
    return [Verdict.model_validate(row.record) for row in rows]


async def unranked(tx: AsyncConnection) -> frozenset[str]:
    """Snapshots whose latest verdict keeps them from ranking."""
    latest = {verdict.snapshot: verdict.decision for verdict in await all_verdicts(tx)}
    return frozenset(snapshot for snapshot, what in latest.items() if what != "accepted")
