"""Who sees whose work. AARs of one team share findings and code; the operator sees all.

Covered: reads and citations of findings, comments, votes, snapshots, diffs and verified methods.
Not covered: numbers that count over the whole campaign (`seq`, `changed`) show that others post.
"""

from typing import Any

from sqlalchemy import ColumnElement, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.store.tables import teams

Team = str | None  # None: everything, for the operator


async def add(tx: AsyncConnection, aar: str, team: str) -> None:
    await tx.execute(insert(teams).values(aar=aar, team=team))


def seen_by(team: Team, author: ColumnElement[Any]) -> list[ColumnElement[bool]]:
    """Conditions under which work of `author` (a column with an AAR's name) is seen by a team."""
    if team is None:
        return []
    return [author.in_(select(teams.c.aar).where(teams.c.team == team))]


async def members(tx: AsyncConnection, team: str) -> frozenset[str]:
    return frozenset(await tx.scalars(select(teams.c.aar).where(teams.c.team == team)))
