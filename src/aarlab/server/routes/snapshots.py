"""Method code: kept as data, readable by every AAR of the campaign."""

import asyncio

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import now_iso
from aarlab.core.wire import NewSnapshot, Snapshot, SnapshotContent
from aarlab.server.auth import AarDep, PlatformDep
from aarlab.server.platform import Platform
from aarlab.server.writes import KeyDep, refusals_logged, write_once, writing
from aarlab.store import log, snapshots
from aarlab.store.repository import Author

router = APIRouter(prefix="/v1")


@router.post("/snapshots")
async def add_snapshot(
    new: NewSnapshot, request: Request, aar: AarDep, platform: PlatformDep, key: KeyDep
) -> Snapshot:
    """Freeze a method folder. A commit whose transaction never ended is unreachable.

    The files go out before the transaction, so that a slow store holds up no other write.
    """
    wanted, repo = writing(platform, aar.name, key, request, new), platform.store.snapshots
    async with refusals_logged(wanted):
        files = snapshots.decode(new)
        if new.parent is not None:
            async with platform.store.database.read() as view:
                await snapshots.get(view, new.parent)
        tree = await asyncio.to_thread(repo.write_files, files)

    async def act(tx: AsyncConnection) -> Snapshot:
        at = now_iso()
        commit = await asyncio.to_thread(repo.commit, tree, new, Author(aar.name, at))
        made = Snapshot(
            id=commit,
            aar=aar.name,
            name=new.name,
            message=new.message,
            parent=new.parent,
            at=at,
            n_files=len(files),
            n_bytes=sum(map(len, files.values())),
        )
        await snapshots.add(tx, made)
        await log.append(tx, "snapshot", made.model_dump(mode="json"), at)
        return made

    return await write_once(wanted, Snapshot, act)


@router.get("/snapshots")
async def list_snapshots(_aar: AarDep, platform: PlatformDep) -> list[Snapshot]:
    async with platform.store.database.read() as tx:
        return await snapshots.all_snapshots(tx)


@router.get("/snapshots/{snapshot}")
async def get_snapshot(snapshot: str, _aar: AarDep, platform: PlatformDep) -> SnapshotContent:
    return await read_snapshot(platform, snapshot)


async def read_snapshot(platform: Platform, snapshot: str) -> SnapshotContent:
    async with platform.store.database.read() as tx:
        known = await snapshots.get(tx, snapshot)
    files = await asyncio.to_thread(platform.store.snapshots.read, known.id)
    return SnapshotContent(snapshot=known, files=files)
