"""Run methods for AARs without a sandbox of their own: a check of the contract, and a trial.

Covered: one run at a time per server, at most TRIAL_S; its seconds are booked as device seconds of
the AAR that requested it, even if the method failed; an AAR whose budget is used up, or that is
paused or stopped, gets none; a key counts once. The code runs in `sandbox_runs`.
Not covered: the seconds of a run during which the server is killed; a run in progress when the last
device second is used up ends at the time limit that was set when it began.
"""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import (
    AarlabError,
    BadInput,
    Forbidden,
    SandboxUnavailable,
    Superseded,
    TooManyRequests,
    Unavailable,
)
from aarlab.core.hashing import sha256_hex
from aarlab.core.wire import NewSnapshot, Score, Spend, Submission
from aarlab.core.wire_service import MethodCheck, NewCheck, NewTrial, Trial
from aarlab.server.service import submissions
from aarlab.server.service.caller import Caller
from aarlab.server.service.snapshots import encoded, read
from aarlab.server.service.tasks import named_task, opened_task
from aarlab.server.writes import Writing, refusals_logged, write_once
from aarlab.store import aars, ledger, log, shared, snapshots, standing
from aarlab.testbed.running.job import JobOutput, turns

try:
    from aarlab.server import sandbox_runs
except ModuleNotFoundError as missing:  # without the extra `sandbox` no method is run here
    if missing.name != "psutil":
        raise
    sandbox_runs = None  # type: ignore[assignment]

TRIAL_S, LEAST_S, RETRY_S = 120.0, 5.0, 5.0
Answer = TypeVar("Answer", MethodCheck, Trial)


async def check(caller: Caller, new: NewCheck, key: str) -> MethodCheck:
    """Run a method on toy tasks and return which rules of the contract it breaks.

    Costs the device seconds that it takes.
    """
    _can_run()
    writing = caller.writing("POST /v1/checks", key, new)
    if bool(new.files) == (new.snapshot is not None):
        raise BadInput("give either `files` or `snapshot`")

    async def act(wall_s: float) -> MethodCheck:
        if new.snapshot is None:
            files = snapshots.decode(NewSnapshot(name="checked", files=encoded(new.files)))
        else:
            files = await _files(caller, new.snapshot)
        return await asyncio.to_thread(sandbox_runs.check_in_sandbox, _place(caller, wall_s), files)

    return await _once(caller, writing, MethodCheck, act)


async def trial(caller: Caller, new: NewTrial, key: str) -> Trial:
    """Run a snapshot on a task's public rows, and submit its predictions if requested.

    Costs the device seconds that it takes.
    """
    _can_run()
    writing = caller.writing("POST /v1/trials", key, new)
    task = named_task(caller.platform, new.task)
    data = caller.platform.settings.data_root

    async def act(wall_s: float) -> Trial:
        files = await _files(caller, new.snapshot, own=new.submit)
        public = await opened_task(caller.platform, task)
        seeds = range(new.first_seed, new.first_seed + new.seeds)
        runs = turns(public.info.teacher_seeds, seeds)
        view = sandbox_runs.method_view(data.public_task(task), data.models)
        asked = sandbox_runs.Asked(runs, [example.id for example in public.search])
        place = _place(caller, wall_s)
        ran = await asyncio.to_thread(sandbox_runs.try_in_sandbox, place, files, view, asked)
        made = Trial(
            task=task,
            snapshot=new.snapshot,
            error=ran.error,
            seconds=ran.seconds,
            n_rows=0 if ran.output is None else len(ran.output.ids),
            seeds=ran.seeds,
        )
        if ran.output is None:
            return made
        if new.show_predictions:
            shown = {"ids": ran.output.ids, "runs": ran.output.runs}
            made = made.model_copy(update=shown)
        if new.submit:
            made = made.model_copy(update=await _submit(caller, writing, made, ran.output))
        return made

    return await _once(caller, writing, Trial, act)


def _can_run() -> None:
    if sandbox_runs is None:
        raise SandboxUnavailable("this server runs no methods: it lacks the extra aarlab[sandbox]")


def _place(caller: Caller, wall_s: float) -> "sandbox_runs.Place":
    platform = caller.platform
    return sandbox_runs.Place(platform.settings.run_dir, wall_s, platform.runs.closed)


async def _submit(
    caller: Caller, writing: Writing, made: Trial, output: JobOutput
) -> dict[str, Score | str]:
    """Submit a trial's predictions and return the score, or why they were refused.

    The run is booked in both cases.
    """
    async with caller.platform.store.database.read() as tx:
        method = (await snapshots.get(tx, made.snapshot, caller.aar.team)).name
    submission = Submission(
        task=made.task,
        method=method,
        snapshot=made.snapshot,
        ids=output.ids,
        runs=output.runs,
    )
    key = f"trial-{sha256_hex(writing.key + writing.fingerprint)[:40]}"
    try:
        return {"score": await submissions.submit(caller, submission, key)}
    except (Superseded, Unavailable):
        raise
    except AarlabError as error:
        return {"refused": f"{error.code}: {error}"}


async def _files(caller: Caller, snapshot: str, own: bool = False) -> dict[str, bytes]:
    content = await read(caller, snapshot)
    if own and content.snapshot.aar != caller.aar.name:
        raise Forbidden("only predictions of an own snapshot can be submitted")
    return {file.path: base64.b64decode(file.content_b64) for file in content.files}


async def _once(
    caller: Caller,
    writing: Writing,
    kind: type[Answer],
    act: Callable[[float], Awaitable[Answer]],
) -> Answer:
    """Run `act` with its time limit in seconds unless an answer is stored for this key.

    A client that disconnects does not stop the booking.
    """
    database, aar = caller.platform.store.database, caller.aar
    async with refusals_logged(writing):
        async with database.read() as tx:
            known = await shared.recall(
                tx, aar.name, writing.key, writing.fingerprint, writing.life
            )
            now = await standing.standing(tx, aar.name)
        if known is not None:
            return kind.model_validate_json(known)
        standing.check(now)
        if caller.platform.runs.free.locked():
            raise TooManyRequests("another method is being run: wait and try again", RETRY_S)
    running = asyncio.ensure_future(_booked(caller, writing, kind, act(_wall_s(now))))
    return await asyncio.shield(running)


async def _booked(
    caller: Caller, writing: Writing, kind: type[Answer], made: Awaitable[Answer]
) -> Answer:
    name = caller.aar.name
    async with caller.platform.runs.free, refusals_logged(writing):
        answer = await made

    async def record(tx: AsyncConnection) -> Answer:
        spent = Spend(kind="device_s", amount=answer.seconds, note=writing.route[:200])
        await aars.touch(tx, name)
        await ledger.add_spend(tx, name, spent)
        await log.append(tx, "spend", {"aar": name, "kind": spent.kind, "amount": spent.amount})
        return answer

    return await write_once(writing, kind, record)


def _wall_s(now: standing.Standing) -> float:
    """Return the time limit in seconds: TRIAL_S, or less if fewer device seconds are left.

    Both the AAR's and the campaign's device seconds count. The limit is at least LEAST_S.
    """
    me = standing.me(now)
    left = [one.device_s for one in (me.left, me.campaign_left) if one and one.device_s is not None]
    return max(min([TRIAL_S, *left]), LEAST_S)
