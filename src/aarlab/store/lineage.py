"""Snapshots beside their commits: listing, copies of the same files, parents and children."""

from typing import NamedTuple

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.canonical import content_hash, sha256_hex
from aarlab.core.wire import NewAar, Snapshot
from aarlab.core.wire_service import Lineage
from aarlab.store.snapshots import get
from aarlab.store.tables import snapshots, trees
from aarlab.store.teams import Team, seen_by

MAX_SHOWN = 200


class Filter(NamedTuple):
    aar: str | None = None
    name: str | None = None
    team: Team = None


def tree_sha256(files: dict[str, bytes]) -> str:
    """The same for the same paths and contents, whoever snapshots them."""
    return content_hash({path: sha256_hex(content) for path, content in files.items()})


async def same_as(tx: AsyncConnection, tree: str, aar: NewAar) -> list[str]:
    """Earlier snapshots of its team's other AARs with these files, oldest first, bounded."""
    query = (
        select(snapshots.c.id)
        .join(trees, trees.c.snapshot == snapshots.c.id)
        .where(trees.c.sha256 == tree, snapshots.c.aar != aar.name)
        .where(*seen_by(aar.team, snapshots.c.aar))
        .order_by(snapshots.c.seq)
    )
    return list(await tx.scalars(query.limit(MAX_SHOWN)))


async def record(tx: AsyncConnection, snapshot: Snapshot, tree: str) -> None:
    await tx.execute(
        insert(trees).values(snapshot=snapshot.id, sha256=tree, parent=snapshot.parent)
    )


async def listed(
    tx: AsyncConnection, wanted: Filter, after: int, limit: int | None
) -> list[tuple[int, Snapshot]]:
    """Oldest first, each with its cursor; one more than `limit` where there are more."""
    query = select(snapshots.c.seq, snapshots.c.record).order_by(snapshots.c.seq)
    query = query.where(snapshots.c.seq > after, *seen_by(wanted.team, snapshots.c.aar))
    if wanted.aar is not None:
        query = query.where(snapshots.c.aar == wanted.aar)
    if wanted.name is not None:
        query = query.where(snapshots.c.record["name"].as_string() == wanted.name)
    rows = await tx.execute(query if limit is None else query.limit(limit + 1))
    return [(row.seq, Snapshot.model_validate(row.record)) for row in rows]


async def lineage(tx: AsyncConnection, snapshot: str, team: Team = None) -> Lineage:
    """Up to MAX_SHOWN ancestors and children; NotFound for one that is unknown or not seen."""
    this = await get(tx, snapshot, team)
    ancestors: list[Snapshot] = []
    parent = this.parent
    while parent is not None and len(ancestors) < MAX_SHOWN:
        ancestors.append(await get(tx, parent, team))
        parent = ancestors[-1].parent
    query = select(snapshots.c.record).join(trees, trees.c.snapshot == snapshots.c.id)
    seen = seen_by(team, snapshots.c.aar)
    made = query.where(trees.c.parent == this.id, *seen).order_by(snapshots.c.seq).limit(MAX_SHOWN)
    children = [Snapshot.model_validate(row.record) for row in await tx.execute(made)]
    return Lineage(snapshot=this, ancestors=ancestors, children=children)
