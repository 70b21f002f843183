"""Verification pods: a re-run to do, the files that it reads, and its result.

What a pod gets is what `verify.hidden` reads of one task and split, by an allow-list, and only
while the pod holds a re-run of them. It gets no truth, no figure, no other re-run and no vault.

Covered: an older process of a pod; a re-run that it does not hold, or that is settled; names that
are not on the list, however they are spelled.
Not covered: what the pod's machine does with what it was given.
"""

import asyncio
from pathlib import Path

from aarlab.core.errors import NotFound
from aarlab.core.wire import SnapshotContent, Verification
from aarlab.core.wire_verifiers import (
    PART_BYTES,
    Claimed,
    FileFacts,
    Material,
    Renewed,
    Settled,
    VerifierCall,
    VerifierGiven,
    VerifierJoin,
    VerifierPart,
    VerifierResult,
    VerifierRun,
    VerifierRuns,
)
from aarlab.server.platform import Platform
from aarlab.server.service import verifications
from aarlab.server.service.snapshots import content
from aarlab.server.writes import writing_at
from aarlab.store import leases, log
from aarlab.testbed.models.record import file_sha256, read_record
from aarlab.testbed.tasks.material import material_of
from aarlab.testbed.tasks.task import load_info, model_at_hand

ACTOR = "@verifiers"  # no AAR can have this name


async def join(platform: Platform, asked: VerifierJoin) -> VerifierGiven:
    """Begin a process of a pod."""
    async with platform.store.database.write() as tx:
        number = await leases.join(tx, asked.pod)
        await log.append(tx, "verifier", {"pod": asked.pod, "number": number})
    spec = platform.settings.run_dir.spec
    text = await asyncio.to_thread(spec.read_text, encoding="utf-8") if spec.exists() else "{}"
    return VerifierGiven(number=number, spec=text)


async def claim(platform: Platform, call: VerifierRuns) -> Claimed:
    """Give the pod the next re-run that nobody holds."""
    async with platform.store.database.write() as tx:
        run = await leases.claim(tx, call, call.runs, await leases.clock(tx))
        if run is not None:
            entry = {"id": run.id, "pod": call.pod, "number": call.number}
            await log.append(tx, "verification_claimed", entry)
        return Claimed(run=run)


async def renew(platform: Platform, call: VerifierRuns) -> Renewed:
    async with platform.store.database.write() as tx:
        return Renewed(held=await leases.renew(tx, call, call.runs, await leases.clock(tx)))


async def release(platform: Platform, call: VerifierRuns) -> Renewed:
    """Give back what the pod holds beyond the re-runs that it names."""
    async with platform.store.database.write() as tx:
        await leases.keep_only(tx, call, call.runs)
    return Renewed(held=call.runs)


async def snapshot(platform: Platform, call: VerifierRun) -> SnapshotContent:
    """Return the code of a re-run that the pod holds."""
    async with platform.store.database.read() as tx:
        run = await leases.held(tx, call, call.run)
    return await content(platform, run.snapshot)


async def material(platform: Platform, call: VerifierRun) -> Material:
    """List the files that a re-run which the pod holds reads."""
    run, files = await _held(platform, call)
    facts = await asyncio.to_thread(lambda: {n: _facts(platform, p) for n, p in files.items()})
    root = platform.settings.data_root
    name = model_at_hand(load_info(root.public_task(run.task)))
    key = "" if name is None else read_record(root.models / name).key
    return Material(files=facts, model=name, model_key=key)


async def part(platform: Platform, asked: VerifierPart) -> bytes:
    """Return up to PART_BYTES of a file that is fetched. Raises NotFound for any other name."""
    _, files = await _held(platform, asked)
    if asked.name not in files or asked.name.startswith("public/"):
        raise NotFound("no such file of this re-run")
    return await asyncio.to_thread(_read, files[asked.name], asked.at)


async def settle(platform: Platform, call: VerifierResult) -> Settled:
    """Settle a re-run that the pod holds; it learns that it did, and no figure."""
    route = f"POST /v1/verifier/settle/{call.run}"
    writing = writing_at(platform, ACTOR, f"settle-{call.run}", route, call.result)
    only = VerifierCall(pod=call.pod, number=call.number)
    settled = await verifications.settle(writing, call.run, call.result, only)
    return Settled(state="failed" if settled.state == "failed" else "done")


async def _held(platform: Platform, call: VerifierRun) -> tuple[Verification, dict[str, Path]]:
    """Return a re-run that the pod holds, and the files that it reads."""
    async with platform.store.database.read() as tx:
        run = await leases.held(tx, call, call.run)
    root = platform.settings.data_root
    return run, await asyncio.to_thread(material_of, root, run.task, run.split)


def _facts(platform: Platform, path: Path) -> FileFacts:
    about = path.stat()
    known = str(path), about.st_mtime_ns, about.st_size
    if known not in platform.hashed:
        platform.hashed[known] = file_sha256(path)
    return FileFacts(sha256=platform.hashed[known], n_bytes=about.st_size)


def _read(path: Path, at: int) -> bytes:
    with path.open("rb") as file:
        file.seek(at)
        return file.read(PART_BYTES)
