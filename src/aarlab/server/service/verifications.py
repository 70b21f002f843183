"""Verification: requests of AARs, re-runs of frozen snapshots, and verdicts of people.

An AAR asks the platform to run its snapshot itself, on hidden data. It learns what became of the
request, never a figure (core.feedback). The operator queues re-runs, and their predictions are
scored here. Verdicts are recorded alike for the API and the dashboard.
"""

import asyncio

from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import BadInput, Conflict, Forbidden, NotFound
from aarlab.core.hashing import content_hash
from aarlab.core.wire import (
    CaseVerdict,
    NewCaseVerdict,
    NewVerdict,
    NewVerification,
    Predictions,
    Verdict,
    Verification,
    VerificationResult,
)
from aarlab.core.wire_service import MethodRequest, NewMethod, VerifiedMethod
from aarlab.core.wire_verifiers import VerifierCall
from aarlab.server.platform import Platform
from aarlab.server.service.caller import Caller
from aarlab.server.tasks import check_development, development_tasks
from aarlab.server.writes import Writing, write_once
from aarlab.store import leases, log, snapshots, standing, verifications

MAX_ERROR = 4000


async def request(caller: Caller, new: NewMethod, key: str) -> MethodRequest:
    """Request the verification of an own snapshot.

    Costs one of `limits.methods`; a refusal costs nothing. Raises Forbidden for another AAR's
    snapshot.
    """
    aar, writing = caller.aar, caller.writing("POST /v1/methods", key, new)

    async def act(tx: AsyncConnection) -> MethodRequest:
        if new.task is not None:
            check_development(caller.platform, new.task)
        if (await snapshots.get(tx, new.snapshot, aar.team)).aar != aar.name:
            raise Forbidden("this snapshot is another AAR's: ask for one of your own")
        standing.check_methods(await standing.standing(tx, aar.name))
        made = await verifications.add_request(tx, aar.name, new)
        entry = made.model_dump(mode="json", include={"id", "aar", "snapshot", "task", "note"})
        await log.append(tx, "method", entry, made.at)
        return made

    return await write_once(writing, MethodRequest, act)


async def requests(
    caller: Caller, after: int = 0, limit: int | None = None
) -> list[tuple[int, MethodRequest]]:
    """List the caller's own requests with their cursors, oldest first."""
    tasks = development_tasks(caller.platform)
    async with caller.platform.store.database.read() as tx:
        return await verifications.requests_of(tx, tasks, caller.aar, after, limit)


async def status(caller: Caller, request: str | None) -> list[MethodRequest]:
    """List the caller's requests, or only the named one; raises NotFound if there is none."""
    mine = [one for _, one in await requests(caller)]
    found = [one for one in mine if request in (None, one.id)]
    if request is not None and not found:
        raise NotFound(f"you have no request {request[:60]!r}: ask for verification first")
    return found


async def verified(caller: Caller) -> list[VerifiedMethod]:
    """List the methods of the team that were verified, failed or flagged, as they were frozen."""
    async with caller.platform.store.database.read() as tx:
        return await verifications.verified(tx, development_tasks(caller.platform), caller.aar.team)


async def queue(writing: Writing, wanted: NewVerification) -> Verification:
    """Queue a re-run and draw its seeds, now that the snapshot is frozen.

    Refuses what could not be scored afterwards: a certify split without baselines or a clear gap.
    """

    async def act(tx: AsyncConnection) -> Verification:
        if wanted.task not in writing.platform.scorer.tasks():
            raise NotFound(f"no task {wanted.task!r} in the vault")
        snapshot = await snapshots.get(tx, wanted.snapshot)
        if wanted.split == "certify" and await verifications.scored_before(tx, wanted):
            raise Conflict(
                f"{wanted.snapshot[:12]} has its certify score on {wanted.task}: that split is "
                "scored once per method"
            )
        if wanted.split == "certify":  # a campaign does not need it, so a task may lack it
            await asyncio.to_thread(writing.platform.scorer.check, wanted.task, wanted.split)
        queued = await verifications.add(tx, wanted, snapshot)
        shown = {"id", "snapshot", "task", "split", "ablation", "run_seeds"}
        await log.append(
            tx, "verification", queued.model_dump(mode="json", include=shown), queued.at
        )
        return queued

    return await write_once(writing, Verification, act)


async def settle(
    writing: Writing,
    verification: str,
    result: VerificationResult,
    call: VerifierCall | None = None,
) -> Verification:
    """Score the predictions, or record why there are none. A settled verification is a Conflict.

    A verification pod, which makes the `call`, must hold the re-run.
    """

    async def act(tx: AsyncConnection) -> Verification:
        queued = await verifications.get(tx, verification)
        if queued.state != "queued":
            raise Conflict(f"{verification} is settled already ({queued.state})")
        if call is not None:
            await leases.held(tx, call, verification)
        settled = await asyncio.to_thread(_settled, writing.platform, queued, result)
        kept = Predictions(result.ids, result.runs) if settled.state == "done" else None
        await verifications.settle(tx, settled, kept)
        await leases.end(tx, verification)
        by = {} if call is None else {"by": f"{call.pod}/{call.number}"}
        await log.append(tx, "verified", {**_entry(settled, result), **by})
        return settled

    return await write_once(writing, Verification, act)


def _settled(platform: Platform, queued: Verification, result: VerificationResult) -> Verification:
    known = {
        "isolation": result.isolation,
        "delivery": result.delivery,
        "open_because": result.open_because,
        "train_rows": result.train_rows,
        "ships": result.ships,
        "asked": result.asked,
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


async def record_verdict(tx: AsyncConnection, new: NewVerdict) -> Verdict:
    """Keep and log a verdict; raises NotFound for an unknown snapshot."""
    await snapshots.get(tx, new.snapshot)
    made = await verifications.add_verdict(tx, new)
    await log.append(tx, "verdict", made.model_dump(mode="json"), made.at)
    return made


async def record_case_verdict(tx: AsyncConnection, new: NewCaseVerdict) -> CaseVerdict:
    """Keep and log a verdict on a case; raises NotFound and BadInput."""
    made = await verifications.add_case_verdict(tx, new)
    await log.append(tx, "case_verdict", made.model_dump(mode="json"), made.at)
    return made
