"""The leaderboard built from the tables, by the rule of `core.ranking`."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.naming import Made, short_names
from aarlab.core.ranking import leaderboard, role_of
from aarlab.core.wire import LeaderboardEntry, Verification
from aarlab.store import overview
from aarlab.store.audits import Decided
from aarlab.store.tables import snapshots


async def board(
    tx: AsyncConnection,
    runs: Sequence[Verification],
    tasks: Sequence[str],
    decided: Decided,
) -> list[LeaderboardEntry]:
    """Rank re-runs, task by task, by what persons decided about their snapshots."""
    roles = {aar.name: role_of(aar.researcher, aar.arm) for aar in await overview.registered(tx)}
    columns = (snapshots.c.id, snapshots.c.aar, snapshots.c.record["name"].as_string())
    found = await tx.execute(select(*columns).order_by(snapshots.c.seq))
    names = short_names((Made(*row) for row in found), roles)
    return leaderboard(runs, tasks, decided.unranked, roles, names, decided.accepted)
