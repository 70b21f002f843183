"""The leaderboard built from the tables, by the rule of `core.ranking`."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.naming import Made, short_names
from aarlab.core.ranking import Role, leaderboard, role_of
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
    names, roles = await short_names_of(tx), await _roles(tx)
    return leaderboard(runs, tasks, decided.unranked, roles, names, decided.accepted)


async def short_names_of(tx: AsyncConnection) -> dict[str, str]:
    """Return the short names of all snapshots, in the order in which they were frozen."""
    columns = (snapshots.c.id, snapshots.c.aar, snapshots.c.record["name"].as_string())
    found = await tx.execute(select(*columns).order_by(snapshots.c.seq))
    return short_names((Made(*row) for row in found), await _roles(tx))


async def _roles(tx: AsyncConnection) -> dict[str, Role]:
    return {aar.name: role_of(aar.researcher, aar.arm) for aar in await overview.registered(tx)}
