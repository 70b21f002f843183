"""Verifications: queued by the operator, run by the verifier, ranked on the leaderboard."""

import secrets

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import now_iso
from aarlab.core.errors import NotFound
from aarlab.core.ids import new_id
from aarlab.core.wire import (
    LeaderboardEntry,
    NewVerification,
    Predictions,
    Snapshot,
    Verification,
)
from aarlab.store.predictions import pack
from aarlab.store.tables import verifications

SEED_RANGE = 2**31
SHOWN_DIGITS = 2


async def add(tx: AsyncConnection, wanted: NewVerification, snapshot: Snapshot) -> Verification:
    """Queue a re-run; its seeds are drawn here, so no snapshot can have been made for them."""
    seeds: set[int] = set()
    while len(seeds) < wanted.n_seeds:
        seeds.add(secrets.randbelow(SEED_RANGE))
    queued = Verification(
        id=new_id("ver"),
        snapshot=snapshot.id,
        aar=snapshot.aar,
        method=snapshot.name,
        task=wanted.task,
        split=wanted.split,
        ablation=wanted.ablation,
        run_seeds=sorted(seeds),
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


def leaderboard(settled: list[Verification], tasks: list[str]) -> list[LeaderboardEntry]:
    """Re-runs on *selection* without ablation, the latest of each snapshot and task, best first.

    Ranked within a task; figures rounded to .01, since AARs read them.
    """
    latest = {
        (v.task, v.snapshot): v
        for v in settled
        if v.state == "done" and v.split == "selection" and v.ablation == "none"
    }
    entries = []
    for task in tasks:
        ranked = [(v.estimate, v) for v in latest.values() if v.task == task and v.estimate]
        ranked.sort(key=lambda pair: -pair[0].value)
        for rank, (estimate, v) in enumerate(ranked, 1):
            entries.append(
                LeaderboardEntry(
                    rank=rank,
                    snapshot=v.snapshot,
                    aar=v.aar,
                    method=v.method,
                    task=task,
                    pgr=round(estimate.value, SHOWN_DIGITS),
                    low=round(estimate.low, SHOWN_DIGITS),
                    high=round(estimate.high, SHOWN_DIGITS),
                    n_seeds=estimate.n_seeds,
                )
            )
    return entries
