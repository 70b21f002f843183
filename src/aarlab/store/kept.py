"""The newest manifest of each AAR that keeps its state on the platform, and what its blobs take.

Covered: a manifest of an older life is refused in its own transaction; one that names a blob that
is not there, or more bytes than an AAR may keep, changes nothing.
"""

from typing import NamedTuple

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.wire_kept import Kept, Manifest
from aarlab.store.tables import kept


class Record(NamedTuple):
    """`seq` counts the manifests of the AAR; `sizes` are the bytes of each blob."""

    seq: int
    kept: Kept
    sizes: dict[str, int]

    @property
    def n_bytes(self) -> int:
        return sum(self.sizes.values())


NOTHING = Record(0, Kept(), {})


async def newest(tx: AsyncConnection, aar: str) -> Record:
    """Return what an AAR kept last; NOTHING before its first manifest."""
    row = (await tx.execute(select(kept).where(kept.c.aar == aar))).first()
    if row is None:
        return NOTHING
    manifest = Manifest.model_validate_json(row.manifest)
    return Record(row.seq, Kept(life=row.life, manifest=manifest), dict(row.sizes))


async def put(tx: AsyncConnection, aar: str, new: Record) -> None:
    """Replace what an AAR kept. The caller has checked its life in this transaction."""
    assert new.kept.manifest is not None
    text = new.kept.manifest.model_dump_json()
    values = {"seq": new.seq, "life": new.kept.life, "manifest": text, "sizes": new.sizes}
    if (await tx.execute(update(kept).where(kept.c.aar == aar).values(**values))).rowcount == 0:
        await tx.execute(insert(kept).values(aar=aar, **values))


async def names(tx: AsyncConnection) -> list[str]:
    """Return the AARs that have kept something."""
    return list(await tx.scalars(select(kept.c.aar)))
