"""Verifications: queued by the operator, run by the verifier; `core.ranking` orders them."""

import secrets

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import now_iso
from aarlab.core.errors import NotFound
from aarlab.core.ids import new_id
from aarlab.core.wire import (
    NewVerification,
    Predictions,
    Snapshot,
    Verification,
)
from aarlab.store import teams
from aarlab.store.predictions import pack
from aarlab.store.tables import verifications

SEED_RANGE = 2**31


def draw_seeds(n_seeds: int) -> list[int]:
    """Draw `n_seeds` distinct unpredictable seeds, in ascending order."""
    return sorted(secrets.SystemRandom().sample(range(SEED_RANGE), n_seeds))


async def add(tx: AsyncConnection, wanted: NewVerification, snapshot: Snapshot) -> Verification:
    """Queue a re-run; its seeds are drawn here, so no snapshot can have been made for them."""
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
    """Oldest first; all of them without a state."""
    query = select(verifications.c.record).order_by(verifications.c.seq)
    if state is not None:
        query = query.where(verifications.c.state == state)
    return [Verification.model_validate(row.record) for row in await tx.execute(query)]


async def seen(
    tx: AsyncConnection, team: teams.Team, state: str | None = None
) -> list[Verification]:
    """Those of a team's methods; of all with None."""
    found = await in_state(tx, state)
    if team is None:
        return found
    members = await teams.members(tx, team)
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
            predictions=None if predictions is None else pack(predictions),
        )
    )


async def scored_before(tx: AsyncConnection, wanted: NewVerification) -> bool:
    """Whether a snapshot has had a re-run of this kind on this task and split, done or queued."""
    return any(
        (v.snapshot, v.task, v.split, v.ablation)
        == (wanted.snapshot, wanted.task, wanted.split, wanted.ablation)
        and v.state != "failed"
        for v in await in_state(tx)
    )
