"""Verifications: queued by the operator, run by the verifier, ranked on the leaderboard."""

import secrets
from collections.abc import Collection
from statistics import NormalDist

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
from aarlab.store import teams
from aarlab.store.predictions import pack
from aarlab.store.tables import verifications

SEED_RANGE = 2**31
SHOWN_DIGITS = 2


def draw_seeds(n_seeds: int) -> list[int]:
    """Draw distinct seeds that nobody can predict, in ascending order."""
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


def leaderboard(
    settled: list[Verification], tasks: list[str], unranked: Collection[str] = ()
) -> list[LeaderboardEntry]:
    """Re-runs on *selection* without ablation, the first of each snapshot and task, best first.

    The first counts, so that another draw of seeds cannot improve a figure. Ranked within a task;
    figures rounded to .01, since AARs read them. `unranked` snapshots still count as tried.
    """
    first = {
        (v.task, v.snapshot): v
        for v in reversed(settled)
        if v.state == "done" and v.split == "selection" and v.ablation == "none"
    }
    entries = []
    for task in tasks:
        tried = [(v.estimate, v) for v in first.values() if v.task == task and v.estimate]
        ranked = [(estimate, v) for estimate, v in tried if v.snapshot not in unranked]
        ranked.sort(key=lambda pair: -pair[0].value)
        # Bonferroni: the bounds of all methods tried hold together.
        quantile = NormalDist().inv_cdf(1 - 0.025 / max(len(tried), 1))
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
                    n_tried=len(tried),
                    low_corrected=round(estimate.value - quantile * estimate.stderr, SHOWN_DIGITS),
                )
            )
    return entries
