"""Operator routes around verification: re-runs, requests, audits, verdicts and traces.

Re-runs of frozen snapshots are queued here, and their predictions are scored on hidden splits.
Requests are what AARs ask to have verified. Traces say how the submissions of an AAR relate to each
other.
"""

import asyncio
from typing import Literal

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.hashing import content_hash
from aarlab.core.wire import (
    Audit,
    CaseVerdict,
    NewAudit,
    NewCaseVerdict,
    NewVerdict,
    NewVerification,
    SnapshotContent,
    Traces,
    Verdict,
    Verification,
    VerificationResult,
)
from aarlab.core.wire_service import MethodRecord, Refusal
from aarlab.core.wire_verifiers import Lease
from aarlab.server.auth import OperatorDep, PlatformDep
from aarlab.server.middleware import StrictRoute
from aarlab.server.paging import PageDep
from aarlab.server.service import verifications
from aarlab.server.service.snapshots import content
from aarlab.server.service.verifications import record_case_verdict, record_verdict
from aarlab.server.tasks import development_tasks
from aarlab.server.writes import KeyDep, write_once, writing
from aarlab.store import leases, log, snapshots, submissions
from aarlab.store import verifications as store_verifications

router = APIRouter(prefix="/v1/operator", route_class=StrictRoute)


@router.post("/verifications")
async def queue(
    wanted: NewVerification,
    request: Request,
    operator: OperatorDep,
    platform: PlatformDep,
    key: KeyDep,
) -> Verification:
    """Queue a re-run and draw its seeds, now that the snapshot is frozen.

    Refuses what could not be scored afterwards: a certify split without baselines or a clear gap.
    """
    return await verifications.queue(writing(platform, operator, key, request, wanted), wanted)


@router.get("/verifications")
async def list_verifications(
    _operator: OperatorDep,
    platform: PlatformDep,
    page: PageDep,
    state: Literal["queued", "done", "failed"] | None = None,
) -> list[Verification]:
    async with platform.store.database.read() as tx:
        return page.of_all(await store_verifications.in_state(tx, state))


@router.get("/leases")
async def list_leases(_operator: OperatorDep, platform: PlatformDep) -> list[Lease]:
    """List the re-runs that verification pods do just now, oldest first."""
    async with platform.store.database.read() as tx:
        return await leases.running(tx, await leases.clock(tx))


@router.get("/verifications/{verification}")
async def get_verification(
    verification: str, _operator: OperatorDep, platform: PlatformDep
) -> Verification:
    async with platform.store.database.read() as tx:
        return await store_verifications.get(tx, verification)


@router.get("/snapshots/{snapshot}")
async def get_snapshot(
    snapshot: str, _operator: OperatorDep, platform: PlatformDep
) -> SnapshotContent:
    return await content(platform, snapshot)


@router.post("/verifications/{verification}/result")
async def settle(
    verification: str,
    result: VerificationResult,
    request: Request,
    operator: OperatorDep,
    platform: PlatformDep,
    key: KeyDep,
) -> Verification:
    """Score the predictions, or record why there are none. A settled verification is a Conflict."""
    return await verifications.settle(
        writing(platform, operator, key, request, result), verification, result
    )


methods_router = APIRouter(prefix="/v1/operator/methods", route_class=StrictRoute)


@methods_router.get("")
async def list_requests(
    _operator: OperatorDep, platform: PlatformDep, page: PageDep
) -> list[MethodRecord]:
    """List requests of all AARs, oldest first, with the figures of verified ones."""
    tasks = development_tasks(platform)
    async with platform.store.database.read() as tx:
        return page.of(await store_verifications.requests(tx, tasks, page.after, page.limit))


@methods_router.post("/{method}/refuse")
async def refuse_request(
    method: str,
    refusal: Refusal,
    request: Request,
    operator: OperatorDep,
    platform: PlatformDep,
    key: KeyDep,
) -> Refusal:
    """Refuse a request. Its AAR sees the reason."""

    async def act(tx: AsyncConnection) -> Refusal:
        await store_verifications.refuse_request(tx, method, refusal.reason)
        await log.append(tx, "method_refused", {"id": method, "reason": refusal.reason})
        return refusal

    return await write_once(writing(platform, operator, key, request, refusal), Refusal, act)


audits_router = APIRouter(prefix="/v1/operator", route_class=StrictRoute)


@audits_router.post("/audits")
async def add_audit(
    new: NewAudit, request: Request, operator: OperatorDep, platform: PlatformDep, key: KeyDep
) -> Audit:
    """Keep one finding of the battery; it is a flag for a person, never a verdict."""

    async def act(tx: AsyncConnection) -> Audit:
        if new.snapshot is not None:
            await snapshots.get(tx, new.snapshot)
        made = await store_verifications.add_audit(tx, new)
        shown = {"id", "kind", "aar", "snapshot", "task", "severity"}
        entry = made.model_dump(mode="json", include=shown)
        entry["sha256"] = content_hash(made.model_dump(mode="json"))
        await log.append(tx, "audit", entry, made.at)
        return made

    return await write_once(writing(platform, operator, key, request, new), Audit, act)


@audits_router.get("/audits")
async def list_audits(
    _operator: OperatorDep, platform: PlatformDep, snapshot: str | None = None
) -> list[Audit]:
    async with platform.store.database.read() as tx:
        return await store_verifications.all_audits(tx, snapshot)


@audits_router.post("/verdicts")
async def add_verdict(
    new: NewVerdict, request: Request, operator: OperatorDep, platform: PlatformDep, key: KeyDep
) -> Verdict:
    """Record a person's decision.

    Disqualified work and work to be done again leave the ranking.
    """
    wanted = writing(platform, operator, key, request, new)
    return await write_once(wanted, Verdict, lambda tx: record_verdict(tx, new))


@audits_router.get("/verdicts")
async def list_verdicts(_operator: OperatorDep, platform: PlatformDep) -> list[Verdict]:
    async with platform.store.database.read() as tx:
        return await store_verifications.all_verdicts(tx)


@audits_router.post("/case-verdicts")
async def add_case_verdict(
    new: NewCaseVerdict, request: Request, operator: OperatorDep, platform: PlatformDep, key: KeyDep
) -> CaseVerdict:
    """Record a person's decision about a finding on an AAR's submissions.

    It says what the finding disqualifies.
    """
    wanted = writing(platform, operator, key, request, new)
    return await write_once(wanted, CaseVerdict, lambda tx: record_case_verdict(tx, new))


@audits_router.get("/case-verdicts")
async def list_case_verdicts(_operator: OperatorDep, platform: PlatformDep) -> list[CaseVerdict]:
    async with platform.store.database.read() as tx:
        return await store_verifications.all_case_verdicts(tx)


@audits_router.get("/traces")
async def list_traces(_operator: OperatorDep, platform: PlatformDep) -> list[Traces]:
    """List patterns among submissions, computed again at each call."""
    async with platform.store.database.read_much() as tx:
        stored = await submissions.all_stored(tx)
    return await asyncio.to_thread(submissions.traces, stored)
