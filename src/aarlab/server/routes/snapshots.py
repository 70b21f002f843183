"""Method code: kept as data, readable by every AAR of the team."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import now_iso
from aarlab.core.wire import NewAar, NewSnapshot, Snapshot, SnapshotContent
from aarlab.core.wire_service import Lineage, SnapshotDiff
from aarlab.server.auth import AarDep, PlatformDep
from aarlab.server.bodies import StrictRoute
from aarlab.server.paging import PageDep
from aarlab.server.platform import Platform
from aarlab.server.writes import KeyDep, Writing, refusals_logged, write_once, writing
from aarlab.store import differences, idempotency, lineage, log, snapshots
from aarlab.store.repository import Author
from aarlab.store.teams import Team

router = APIRouter(prefix="/v1", route_class=StrictRoute)
TAR = "application/x-tar"
Wanted = Annotated[str | None, Query(max_length=200)]


@router.post("/snapshots", responses={402: {}})
async def add_snapshot(
    new: NewSnapshot, request: Request, aar: AarDep, platform: PlatformDep, key: KeyDep
) -> Snapshot:
    """Freeze a method folder."""
    return await freeze(aar, writing(platform, aar.name, key, request, new), new)


async def freeze(aar: NewAar, wanted: Writing, new: NewSnapshot) -> Snapshot:
    """Freeze a snapshot, for the route and the MCP tools.

    The files are written before the transaction, so that a slow store does not block other writes.
    A commit whose transaction never ended is unreachable.
    """
    platform, repo = wanted.platform, wanted.platform.store.snapshots
    async with refusals_logged(wanted):
        files = snapshots.decode(new)
        tree_sha256, n_bytes = lineage.tree_sha256(files), sum(map(len, files.values()))
        async with platform.store.database.read() as view:
            if await idempotency.recall(view, aar.name, wanted.key, wanted.fingerprint) is None:
                limit = platform.settings.snapshot_bytes
                await snapshots.check_room(view, aar.name, n_bytes, limit)
            if new.parent is not None:
                await snapshots.get(view, new.parent, aar.team)
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
            n_bytes=n_bytes,
            same_as=await lineage.same_as(tx, tree_sha256, aar),
        )
        await snapshots.add(tx, made)
        await lineage.record(tx, made, tree_sha256)
        await log.append(tx, "snapshot", made.model_dump(mode="json"), at)
        return made

    return await write_once(wanted, Snapshot, act)


@router.get("/snapshots")
async def list_snapshots(
    caller: AarDep,
    platform: PlatformDep,
    page: PageDep,
    aar: Wanted = None,
    name: Wanted = None,
) -> list[Snapshot]:
    """Snapshots of the team's AARs, or of one AAR or name; oldest first."""
    wanted = lineage.Filter(aar, name, caller.team)
    async with platform.store.database.read() as tx:
        return page.of(await lineage.listed(tx, wanted, page.after, page.limit))


@router.get("/snapshots/{snapshot}")
async def get_snapshot(snapshot: str, aar: AarDep, platform: PlatformDep) -> SnapshotContent:
    """All files of a snapshot."""
    return await read_snapshot(platform, snapshot, aar.team)


@router.get("/snapshots/{snapshot}/lineage")
async def get_lineage(snapshot: str, aar: AarDep, platform: PlatformDep) -> Lineage:
    """What a snapshot was made from, back to the first, and what was made from it."""
    async with platform.store.database.read() as tx:
        return await lineage.lineage(tx, snapshot, aar.team)


@router.get("/snapshots/{snapshot}/diff")
async def get_diff(
    snapshot: str, aar: AarDep, platform: PlatformDep, against: Wanted = None
) -> SnapshotDiff:
    """Changes since `against`, or since the parent; without either, all files are added."""
    new = await read_snapshot(platform, snapshot, aar.team)
    base = against or new.snapshot.parent
    old = (await read_snapshot(platform, base, aar.team)).files if base is not None else []
    files = await asyncio.to_thread(
        differences.differences, differences.contents(old), differences.contents(new.files)
    )
    return SnapshotDiff(snapshot=new.snapshot.id, against=base, files=files)


@router.get(
    "/snapshots/{snapshot}/tar",
    response_class=Response,
    responses={200: {"content": {TAR: {}}, "description": "the files; the same bytes each time"}},
)
async def get_tar(snapshot: str, aar: AarDep, platform: PlatformDep) -> Response:
    """All files of a snapshot as one tar file."""
    kept = await read_snapshot(platform, snapshot, aar.team)
    packed = await asyncio.to_thread(differences.tar_of, differences.contents(kept.files))
    name = {"Content-Disposition": f'attachment; filename="{kept.snapshot.id}.tar"'}
    return Response(packed, media_type=TAR, headers=name)


async def read_snapshot(platform: Platform, snapshot: str, team: Team = None) -> SnapshotContent:
    """Of what the team sees; of all with None, which is the operator's."""
    async with platform.store.database.read() as tx:
        known = await snapshots.get(tx, snapshot, team)
    files = await asyncio.to_thread(platform.store.snapshots.read, known.id)
    return SnapshotContent(snapshot=known, files=files)
