"""Operator: audits, verdicts, and how the submissions of an AAR lie to each other."""

import asyncio

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.canonical import content_hash
from aarlab.core.wire import (
    Audit,
    CaseVerdict,
    NewAudit,
    NewCaseVerdict,
    NewVerdict,
    Traces,
    Verdict,
)
from aarlab.server.auth import OperatorDep, PlatformDep
from aarlab.server.bodies import StrictRoute
from aarlab.server.writes import KeyDep, write_once, writing
from aarlab.store import audits, forensics, log, snapshots, submissions

router = APIRouter(prefix="/v1/operator", route_class=StrictRoute)


@router.post("/audits")
async def add_audit(
    new: NewAudit, request: Request, operator: OperatorDep, platform: PlatformDep, key: KeyDep
) -> Audit:
    """Keep one finding of the battery; it is a flag for a person, never a verdict."""

    async def act(tx: AsyncConnection) -> Audit:
        if new.snapshot is not None:
            await snapshots.get(tx, new.snapshot)
        made = await audits.add_audit(tx, new)
        shown = {"id", "kind", "aar", "snapshot", "task", "severity"}
        entry = made.model_dump(mode="json", include=shown)
        entry["sha256"] = content_hash(made.model_dump(mode="json"))
        await log.append(tx, "audit", entry, made.at)
        return made

    return await write_once(writing(platform, operator, key, request, new), Audit, act)


@router.get("/audits")
async def list_audits(
    _operator: OperatorDep, platform: PlatformDep, snapshot: str | None = None
) -> list[Audit]:
    async with platform.store.database.read() as tx:
        return await audits.all_audits(tx, snapshot)


@router.post("/verdicts")
async def add_verdict(
    new: NewVerdict, request: Request, operator: OperatorDep, platform: PlatformDep, key: KeyDep
) -> Verdict:
    """A person's decision. Disqualified work and work to be done again leave the ranking."""

    wanted = writing(platform, operator, key, request, new)
    return await write_once(wanted, Verdict, lambda tx: record_verdict(tx, new))


async def record_verdict(tx: AsyncConnection, new: NewVerdict) -> Verdict:
    """Keep and log a verdict; raises NotFound for an unknown snapshot."""
    await snapshots.get(tx, new.snapshot)
    made = await audits.add_verdict(tx, new)
    await log.append(tx, "verdict", made.model_dump(mode="json"), made.at)
    return made


@router.get("/verdicts")
async def list_verdicts(_operator: OperatorDep, platform: PlatformDep) -> list[Verdict]:
    async with platform.store.database.read() as tx:
        return await audits.all_verdicts(tx)


@router.post("/case-verdicts")
async def add_case_verdict(
    new: NewCaseVerdict, request: Request, operator: OperatorDep, platform: PlatformDep, key: KeyDep
) -> CaseVerdict:
    """A person's decision about a finding on an AAR's submissions, and what it disqualifies."""
    wanted = writing(platform, operator, key, request, new)
    return await write_once(wanted, CaseVerdict, lambda tx: record_case_verdict(tx, new))


async def record_case_verdict(tx: AsyncConnection, new: NewCaseVerdict) -> CaseVerdict:
    """Keep and log it; raises NotFound and BadInput."""
    made = await audits.add_case_verdict(tx, new)
    await log.append(tx, "case_verdict", made.model_dump(mode="json"), made.at)
    return made


@router.get("/case-verdicts")
async def list_case_verdicts(_operator: OperatorDep, platform: PlatformDep) -> list[CaseVerdict]:
    async with platform.store.database.read() as tx:
        return await audits.all_case_verdicts(tx)


@router.get("/traces")
async def list_traces(_operator: OperatorDep, platform: PlatformDep) -> list[Traces]:
    """Patterns among submissions, worked out anew at each call."""
    async with platform.store.database.read_much() as tx:
        stored = await submissions.all_stored(tx)
    return await asyncio.to_thread(forensics.traces, stored)
