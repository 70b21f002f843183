"""What survives an AAR's machine: blobs, and a manifest that names them.

Each AAR has a folder of blobs, and none reads that of another. A blob that the newest manifest does
not name is removed when that manifest is there. What people and the campaign look at in an AAR's
folder (transcript, state) is written into the run's folder after each manifest.

Blobs come through this server, or go to the bucket and come from there by links that are signed
here (store.blobs). A link is bound to the AAR's own folder, and one to put a blob to its bytes.

Covered: an older life, whose manifest is refused; a server killed anywhere between (a manifest that
was not written out is when the next life begins, or at the next manifest).
Not covered: two servers, each of which writes out the manifests that it got; a blob that an older
life was still putting into the bucket when the next one began, which stays until the one after.
"""

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from aarlab.core.errors import BadInput, BudgetExhausted, Forbidden, NotFound
from aarlab.core.files import write_atomic
from aarlab.core.hashing import sha256_hex
from aarlab.core.wire_kept import (
    FILE_BYTES,
    KEPT_BYTES,
    MOST_FILES,
    PART_BYTES,
    PIECE_BYTES,
    STATES,
    TRANSCRIPT,
    Kept,
    Links,
    LinksAsked,
    Manifest,
    Stored,
    file_of,
    stretches,
)
from aarlab.server.platform import Mirror, Platform
from aarlab.server.service.caller import Caller
from aarlab.store import kept, shared
from aarlab.store.blobs import Blobs
from aarlab.store.kept import Record

PRIVATE = 0o600


async def begun(caller: Caller) -> Kept:
    """Return what earlier lives of the AAR kept; remove blobs that belong to no manifest."""
    _supervisor(caller)
    name, blobs = caller.aar.name, _blobs(caller.platform, caller.aar.name)
    async with caller.platform.store.database.read() as tx:
        record = await kept.newest(tx, name)
    await asyncio.to_thread(lambda: blobs.drop(blobs.all() - record.sizes.keys()))
    _mirror(caller.platform, name).named()
    await mirrored(caller.platform, name)
    return record.kept.model_copy(update={"direct": caller.platform.settings.blobs_direct})


async def put_blob(caller: Caller, sha: str, data: bytes) -> Stored:
    """Keep a blob, which no manifest names yet."""
    _supervisor(caller)
    if sha256_hex(data) != sha:
        raise BadInput(f"the bytes are not those of {sha[:70]!r}")
    if len(data) > FILE_BYTES:
        raise BadInput(f"{len(data):,} bytes: a file of over {FILE_BYTES:,} is not kept")
    n_pending = _expect(caller, {sha: len(data)})
    await asyncio.to_thread(_blobs(caller.platform, caller.aar.name).put, data)
    return Stored(n_bytes=n_pending)


async def get_blob(caller: Caller, sha: str) -> bytes:
    """Return a blob of the AAR's own. Raises NotFound."""
    _supervisor(caller)
    return await asyncio.to_thread(_blobs(caller.platform, caller.aar.name).get, sha)


async def links(caller: Caller, asked: LinksAsked) -> Links:
    """Return links to blobs of the AAR's own. Raises BadInput where blobs go through here."""
    _supervisor(caller)
    if not caller.platform.settings.blobs_direct:
        raise BadInput("blobs go through this server: it gives no links")
    _expect(caller, asked.put)
    blobs = _blobs(caller.platform, caller.aar.name)

    def signed() -> Links:
        put = {sha: blobs.link_to_put(sha, n_bytes) for sha, n_bytes in asked.put.items()}
        return Links(put=put, get={sha: blobs.link_to_get(sha) for sha in asked.get})

    return await asyncio.to_thread(signed)


def _expect(caller: Caller, sizes: Mapping[str, int]) -> int:
    """Note blobs that no manifest names yet; return what all of them take.

    Raises BudgetExhausted for more than an AAR may keep.
    """
    mirror = _mirror(caller.platform, caller.aar.name)
    known = mirror.pending
    more = {sha: n for sha, n in sizes.items() if n > known.get(sha, -1)}
    n_bytes = mirror.pending_bytes + sum(n - known.get(sha, 0) for sha, n in more.items())
    if n_bytes > KEPT_BYTES or len(known) + len(more) > 2 * MOST_FILES:
        raise BudgetExhausted(
            f"over {KEPT_BYTES:,} bytes or {2 * MOST_FILES:,} blobs without a manifest that names "
            "them"
        )
    known.update(more)
    mirror.pending_bytes = n_bytes
    return n_bytes


async def put_manifest(caller: Caller, new: Manifest) -> Stored:
    """Replace what the AAR keeps.

    Raises Superseded for an older life, NotFound naming a blob that is not there, BudgetExhausted
    for more bytes than an AAR may keep. Nothing has changed then.
    """
    _supervisor(caller)
    name, platform = caller.aar.name, caller.platform
    blobs, database = _blobs(platform, name), platform.store.database
    async with database.read() as view:
        old = await kept.newest(view, name)
    fresh = await asyncio.to_thread(blobs.sizes, new.blobs - old.sizes.keys())
    sizes = {sha: size for sha, size in (old.sizes | fresh).items() if sha in new.blobs}
    made = Record(old.seq + 1, Kept(life=caller.life or 0, manifest=new), sizes)
    if made.n_bytes > KEPT_BYTES:
        raise BudgetExhausted(f"{made.n_bytes:,} bytes: an AAR keeps {KEPT_BYTES:,} in all")
    async with database.write() as tx:
        await shared.check_life(tx, name, caller.life or 0)
        await kept.put(tx, name, made)
    _mirror(platform, name).named()
    await mirrored(platform, name)
    await asyncio.to_thread(blobs.drop, old.sizes.keys() - new.blobs)
    return Stored(n_bytes=made.n_bytes)


def _supervisor(caller: Caller) -> None:
    if not caller.supervised or caller.life is None:
        raise Forbidden("only the process that the campaign started for an AAR keeps its state")


def _blobs(platform: Platform, aar: str) -> Blobs:
    return Blobs(platform.store.files.sub("kept").sub(aar))


def _mirror(platform: Platform, aar: str) -> Mirror:
    return platform.mirrors.setdefault(aar, Mirror())


async def mirrored(platform: Platform, name: str) -> None:
    """Write into the run's folder what is looked at of an AAR, as its newest manifest has it."""
    mirror = _mirror(platform, name)
    async with mirror.writing:
        async with platform.store.database.read() as tx:
            record = await kept.newest(tx, name)
        if record.seq > mirror.seq and record.kept.manifest is not None:
            home = record.kept.manifest.home
            changed = {n: sha for n, sha in home.items() if mirror.home.get(n) != sha}
            folder = platform.settings.run_dir.aar(name)
            # A newer manifest, whose own turn comes, may have removed a blob of this one.
            with suppress(NotFound):
                await asyncio.to_thread(_write, _blobs(platform, name), folder, changed, home)
                mirror.seq, mirror.home = record.seq, home


def _write(blobs: Blobs, folder: Path, changed: dict[str, str], home: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for state in STATES:  # no other name of that folder is the AAR's to write
        parts = sorted(name for name in home if file_of(name) == state)
        if any(name in changed for name in parts):
            place = folder / state
            here = stretches(place.read_bytes()) if place.exists() else []
            known = {sha256_hex(one): one for one in here}
            whole = b"".join(
                known.get(sha) or blobs.get(sha) for sha in (home[name] for name in parts)
            )
            write_atomic(place, whole, PRIVATE)
    parts = sorted(name for name in home if name.startswith(TRANSCRIPT))
    if not any(name in changed for name in parts):
        return
    place = folder / TRANSCRIPT.rstrip("/")
    handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    with os.fdopen(handle, "wb") as out:
        for name in parts:
            if name in changed:
                part, _, piece = name.removeprefix(TRANSCRIPT).partition(".")
                out.seek(int(part) * PART_BYTES + int(piece or 0) * PIECE_BYTES)
                out.write(blobs.get(changed[name]))
                out.truncate()


async def mirror_all(platform: Platform) -> None:
    """Write out what an earlier server was killed before; called when a server starts."""
    async with platform.store.database.read() as tx:
        names = await kept.names(tx)
    for name in names:
        await mirrored(platform, name)
