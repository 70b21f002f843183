"""Operator: queue re-runs of frozen snapshots and score their predictions on hidden splits."""

import asyncio
from typing import Literal

from fastapi import APIRouter, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.canonical import content_hash
from aarlab.core.errors import BadInput, Conflict, NotFound
from aarlab.core.wire import (
    NewVerification,
    Predictions,
    SnapshotContent,
    Verification,
    VerificationResult,
)
from aarlab.server.auth import OperatorDep, PlatformDep
from aarlab.server.bodies import StrictRoute
from aarlab.server.paging import PageDep
from aarlab.server.platform import Platform
from aarlab.server.routes.snapshots import read_snapshot
from aarlab.server.writes import KeyDep, write_once, writing
from aarlab.store import log, snapshots, verifications

router = APIRouter(prefix="/v1/operator", route_class=StrictRoute)
MAX_ERROR = 4000


@router.post("/verifications")
async def queue(
    wanted: NewVerification,
    request: Request,
    operator: OperatorDep,
    platform: PlatformDep,
    key: KeyDep,
) -> Verification:
    """Draws the run seeds now that the snapshot is frozen.

    Refuses what could not be scored afterwards: a certify split without baselines or a clear gap.
    """

    async def act(tx: AsyncConnection) -> Verification:
        if wanted.task not in platform.scorer.tasks():
            raise NotFound(f"no task {wanted.task!r} in the vault")
        snapshot = await snapshots.get(tx, wanted.snapshot)
        if wanted.split == "certify" and await verifications.scored_before(tx, wanted):
            raise Conflict(
                f"{wanted.snapshot[:12]} has its certify score on {wanted.task}: that split is "
                "scored once per method"
            )
        if wanted.split == "certify":  # a campaign does not need it, so a task may lack it
            await asyncio.to_thread(platform.scorer.check, wanted.task, wanted.split)
        queued = await verifications.add(tx, wanted, snapshot)
        shown = {"id", "snapshot", "task", "split", "ablation", "run_seeds"}
        await log.append(
            tx, "verification", queued.model_dump(mode="json", include=shown), queued.at
        )
        return queued

    return await write_once(writing(platform, operator, key, request, wanted), Verification, act)


@router.get("/verifications")
async def list_verifications(
    _operator: OperatorDep,
    platform: PlatformDep,
    page: PageDep,
    state: Literal["queued", "done", "failed"] | None = None,
) -> list[Verification]:
    async with platform.store.database.read() as tx:
        return page.of_all(await verifications.in_state(tx, state))


@router.get("/verifications/{verification}")
async def get_verification(
    verification: str, _operator: OperatorDep, platform: PlatformDep
) -> Verification:
    async with platform.store.database.read() as tx:
        return await verifications.get(tx, verification)


@router.get("/snapshots/{snapshot}")
async def get_snapshot(
    snapshot: str, _operator: OperatorDep, platform: PlatformDep
) -> SnapshotContent:
    return await read_snapshot(platform, snapshot)


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

    async def act(tx: AsyncConnection) -> Verification:
        queued = await verifications.get(tx, verification)
        if queued.state != "queued":
            raise Conflict(f"{verification} is settled already ({queued.state})")
        settled = await asyncio.to_thread(_settled, platform, queued, result)
        kept = Predictions(result.ids, result.runs) if settled.state == "done" else None
        await verifications.settle(tx, settled, kept)
        await log.append(tx, "verified", _entry(settled, result))
        return settled

    return await write_once(writing(platform, operator, key, request, result), Verification, act)


def _settled(platform: Platform, queued: Verification, result: VerificationResult) -> Verification:
    known = {
        "isolation": result.isolation,
        "delivery": result.delivery,
        "open_because": result.open_because,
        "train_rows": result.train_rows,
        "seconds": result.seconds,
        "error": result.error[:MAX_ERROR],
        "evidence": result.evidence,
    }
    if result.error:
        return queued.model_copy(update={**known, "state": "failed"})
    if sorted(run.seed for run in result.runs) != queued.run_seeds:
        raise BadInput(
            f"{queued.id}: expected one run for each of its {len(queued.run_seeds)} drawn seeds, "
            f"got {len(result.runs)} runs of other seeds"
        )
    scored = (queued.task, queued.split, Predictions(result.ids, result.runs))
    return queued.model_copy(
        update={
            **known,
            "state": "done",
            "estimate": platform.scorer.estimate(*scored),
            "accuracy": platform.scorer.accuracy(*scored),
        }
    )


def _entry(settled: Verification, result: VerificationResult) -> dict[str, object]:
    entry: dict[str, object] = {
        "id": settled.id,
        "state": settled.state,
        "isolation": settled.isolation,
        "error": settled.error[:200],
        "predictions_sha256": content_hash(result.model_dump(mode="json", include={"ids", "runs"})),
        "evidence_sha256": content_hash(result.model_dump(mode="json", include={"evidence"})),
    }
    if settled.estimate is not None:
        figures = settled.estimate.model_dump(include={"value", "low", "high"})
        entry["pgr"] = {name: round(figure, 2) for name, figure in figures.items()}
    return entry
