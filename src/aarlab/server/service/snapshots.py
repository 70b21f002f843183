"""Method code: kept as data, readable by every AAR of the team."""

import asyncio
import base64
from collections.abc import Iterable

from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import now_iso
from aarlab.core.errors import BadInput
from aarlab.core.wire import NewSnapshot, Snapshot, SnapshotContent, SnapshotFile
from aarlab.core.wire_service import CodeFile, Lineage, NewTextSnapshot, SnapshotDiff, TextFile
from aarlab.server.platform import Platform
from aarlab.server.service.caller import Caller
from aarlab.server.writes import refusals_logged, write_once
from aarlab.store import log, shared, snapshots
from aarlab.store.aars import Team
from aarlab.store.repository import Author

SHOWN_BYTES = 200_000  # of one file


async def freeze(caller: Caller, new: NewSnapshot, key: str) -> Snapshot:
    """Freeze a method folder.

    The files are written before the transaction, so that a slow store does not block other writes.
    A commit whose transaction never ended is unreachable.
    """
    platform, aar, repo = caller.platform, caller.aar, caller.platform.store.snapshots
    writing = caller.writing("POST /v1/snapshots", key, new)
    async with refusals_logged(writing):
        files = snapshots.decode(new)
        tree_sha256, n_bytes = snapshots.tree_sha256(files), sum(map(len, files.values()))
        async with platform.store.database.read() as view:
            known = await shared.recall(view, aar.name, key, writing.fingerprint, writing.life)
            if known is None:
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
            same_as=await snapshots.same_as(tx, tree_sha256, aar),
        )
        await snapshots.add(tx, made)
        await snapshots.record(tx, made, tree_sha256)
        await log.append(tx, "snapshot", made.model_dump(mode="json"), at)
        return made

    return await write_once(writing, Snapshot, act)


async def freeze_text(caller: Caller, new: NewTextSnapshot, key: str) -> Snapshot:
    """Freeze a method folder given as text, with the parent's other files if they are to be kept.

    Raises BadInput if `keep_parent_files` is set without a parent.
    """
    files = encoded(new.files)
    if new.keep_parent_files:
        if new.parent is None:
            raise BadInput("keep_parent_files needs a `parent`")
        given = {file.path for file in files}
        parent = await read(caller, new.parent)
        files += [file for file in parent.files if file.path not in given]
    whole = NewSnapshot(name=new.name, message=new.message, parent=new.parent, files=files)
    return await freeze(caller, whole, key)


async def listed(
    caller: Caller,
    aar: str | None = None,
    name: str | None = None,
    after: int = 0,
    limit: int | None = None,
) -> list[tuple[int, Snapshot]]:
    """List snapshots of the team, or of one AAR or name, with their cursors; oldest first."""
    wanted = snapshots.Filter(aar, name, caller.aar.team)
    async with caller.platform.store.database.read() as tx:
        return await snapshots.listed(tx, wanted, after, limit)


async def read(caller: Caller, snapshot: str) -> SnapshotContent:
    """Read all files of a snapshot of the team; raises NotFound for any other."""
    return await content(caller.platform, snapshot, caller.aar.team)


async def content(platform: Platform, snapshot: str, team: Team = None) -> SnapshotContent:
    """Read a snapshot of what the team sees; None, which is the operator's, sees all."""
    async with platform.store.database.read() as tx:
        known = await snapshots.get(tx, snapshot, team)
    files = await asyncio.to_thread(platform.store.snapshots.read, known.id)
    return SnapshotContent(snapshot=known, files=files)


async def ancestry(caller: Caller, snapshot: str) -> Lineage:
    """Return what a snapshot was made from, back to the first, and what was made from it."""
    async with caller.platform.store.database.read() as tx:
        return await snapshots.lineage(tx, snapshot, caller.aar.team)


async def diff(caller: Caller, snapshot: str, against: str | None) -> SnapshotDiff:
    """Compare with `against`, or with the parent; without either, all files are added."""
    new = await read(caller, snapshot)
    base = against or new.snapshot.parent
    old = (await read(caller, base)).files if base is not None else []
    files = await asyncio.to_thread(
        snapshots.differences, snapshots.contents(old), snapshots.contents(new.files)
    )
    return SnapshotDiff(snapshot=new.snapshot.id, against=base, files=files)


async def tar(caller: Caller, snapshot: str) -> tuple[str, bytes]:
    """Return a snapshot's id and its files as one tar file; the same bytes each time."""
    kept = await read(caller, snapshot)
    packed = await asyncio.to_thread(snapshots.tar_of, snapshots.contents(kept.files))
    return kept.snapshot.id, packed


def encoded(files: Iterable[TextFile]) -> list[SnapshotFile]:
    """Encode text files in base64, as `freeze` takes them."""
    return [
        SnapshotFile(path=f.path, content_b64=base64.b64encode(f.text.encode()).decode())
        for f in files
    ]


async def read_text(caller: Caller, snapshot: str) -> list[CodeFile]:
    """List every file, with its text if it is UTF-8 and at most SHOWN_BYTES long."""
    return [_shown(file) for file in (await read(caller, snapshot)).files]


def _shown(file: SnapshotFile) -> CodeFile:
    raw = base64.b64decode(file.content_b64)
    if len(raw) > SHOWN_BYTES:
        return CodeFile(path=file.path, text=None, omitted="too large", n_bytes=len(raw))
    try:
        return CodeFile(path=file.path, text=raw.decode(), n_bytes=len(raw))
    except UnicodeDecodeError:
        return CodeFile(path=file.path, text=None, omitted="binary", n_bytes=len(raw))
