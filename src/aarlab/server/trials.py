"""Run methods for AARs without a sandbox of their own: a check of the contract, and a trial.

Covered: one run at a time per server, at most TRIAL_S; its seconds are booked as device seconds of
the AAR that requested it, even if the method failed; an AAR whose budget is used up, or that is
paused or stopped, gets none; a key counts once. The code runs in `sandbox_runs`.
Not covered: the seconds of a run during which the server is killed; a run in progress when the last
device second is used up ends at the time limit that was set when it began.
"""

import asyncio
import base64
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.agents.method_run import method_view
from aarlab.core.canonical import sha256_hex
from aarlab.core.errors import AarlabError, BadInput, Forbidden, TooManyRequests, Unavailable
from aarlab.core.wire import NewAar, NewSnapshot, Score, Spend, Submission
from aarlab.core.wire_task import MethodCheck, NewCheck, NewTrial, Trial
from aarlab.server.code_text import encoded
from aarlab.server.platform import Platform
from aarlab.server.routes.snapshots import read_snapshot
from aarlab.server.routes.submissions import score_predictions
from aarlab.server.sandbox_runs import Asked, Place, check_in_sandbox, try_in_sandbox
from aarlab.server.task_rows import named_task, opened_task
from aarlab.server.writes import Writing, refusals_logged, write_once, writing_at
from aarlab.store import aars, idempotency, ledger, log, snapshots, standing
from aarlab.testbed.job import JobOutput, SeedPair

TRIAL_S, LEAST_S, RETRY_S = 120.0, 5.0, 5.0
Answer = TypeVar("Answer", MethodCheck, Trial)


@dataclass
class Trials:
    """The method runs of one server. `close` ends the current run."""

    platform: Platform
    _free: asyncio.Lock = field(default_factory=asyncio.Lock)
    _closed: threading.Event = field(default_factory=threading.Event)

    def close(self) -> None:
        self._closed.set()

    async def check(self, aar: NewAar, wanted: Writing, new: NewCheck) -> MethodCheck:
        """Run a method on toy tasks and return which rules of the contract it breaks."""
        if bool(new.files) == (new.snapshot is not None):
            raise BadInput("give either `files` or `snapshot`")

        async def act(place: Place) -> MethodCheck:
            if new.snapshot is None:
                files = snapshots.decode(NewSnapshot(name="checked", files=encoded(new.files)))
            else:
                files = await self._files(aar, new.snapshot)
            return await asyncio.to_thread(check_in_sandbox, place, files)

        return await self._once(aar, wanted, MethodCheck, act)

    async def trial(self, aar: NewAar, wanted: Writing, new: NewTrial) -> Trial:
        """Run a snapshot on a task's public rows, and submit its predictions if requested."""
        task = named_task(self.platform, new.task)
        data = self.platform.settings.data_root

        async def act(place: Place) -> Trial:
            files = await self._files(aar, new.snapshot, own=new.submit)
            public = await opened_task(self.platform, task)
            seeds = public.info.teacher_seeds
            runs = [
                SeedPair(teacher_seed=seeds[i % len(seeds)], seed=new.first_seed + i)
                for i in range(new.seeds)
            ]
            view = method_view(data.public_task(task), data.models)
            asked = Asked(runs, [example.id for example in public.search])
            ran = await asyncio.to_thread(try_in_sandbox, place, files, view, asked)
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
                made = made.model_copy(update=await self._submit(aar, wanted, made, ran.output))
            return made

        return await self._once(aar, wanted, Trial, act)

    async def _submit(
        self, aar: NewAar, wanted: Writing, made: Trial, output: JobOutput
    ) -> dict[str, Score | str]:
        """Submit a trial's predictions and return the score, or why they were refused.

        The run is booked in both cases.
        """
        async with self.platform.store.database.read() as tx:
            method = (await snapshots.get(tx, made.snapshot, aar.team)).name
        submission = Submission(
            task=made.task,
            method=method,
            snapshot=made.snapshot,
            ids=output.ids,
            runs=output.runs,
        )
        key = f"trial-{sha256_hex(wanted.key + wanted.fingerprint)[:40]}"
        asked = writing_at(self.platform, aar.name, key, "POST /v1/submissions", submission)
        try:
            return {"score": await score_predictions(aar, asked, submission)}
        except Unavailable:
            raise
        except AarlabError as error:
            return {"refused": f"{error.code}: {error}"}

    async def _files(self, aar: NewAar, snapshot: str, own: bool = False) -> dict[str, bytes]:
        content = await read_snapshot(self.platform, snapshot, aar.team)
        if own and content.snapshot.aar != aar.name:
            raise Forbidden("only predictions of an own snapshot can be submitted")
        return {file.path: base64.b64decode(file.content_b64) for file in content.files}

    async def _once(
        self,
        aar: NewAar,
        wanted: Writing,
        kind: type[Answer],
        act: Callable[[Place], Awaitable[Answer]],
    ) -> Answer:
        """Run unless an answer is stored for this key.

        A client that disconnects does not stop the booking.
        """
        database = self.platform.store.database
        async with refusals_logged(wanted):
            async with database.read() as tx:
                known = await idempotency.recall(tx, aar.name, wanted.key, wanted.fingerprint)
                now = await standing.standing(tx, aar.name)
            if known is not None:
                return kind.model_validate_json(known)
            standing.check(now)
            if self._free.locked():
                raise TooManyRequests("another method is being run: wait and try again", RETRY_S)
            place = Place(self.platform.settings.run_dir, _wall_s(now), self._closed)
        running = asyncio.ensure_future(self._booked(aar, wanted, kind, act(place)))
        return await asyncio.shield(running)

    async def _booked(
        self, aar: NewAar, wanted: Writing, kind: type[Answer], made: Awaitable[Answer]
    ) -> Answer:
        async with self._free, refusals_logged(wanted):
            answer = await made

        async def record(tx: AsyncConnection) -> Answer:
            spent = Spend(kind="device_s", amount=answer.seconds, note=wanted.route[:200])
            await aars.touch(tx, aar.name)
            await ledger.add_spend(tx, aar.name, spent)
            entry = {"aar": aar.name, "kind": spent.kind, "amount": spent.amount}
            await log.append(tx, "spend", entry)
            return answer

        return await write_once(wanted, kind, record)


def _wall_s(now: standing.Standing) -> float:
    """Return the time limit in seconds: TRIAL_S, or less if fewer device seconds are left.

    Both the AAR's and the campaign's device seconds count. The limit is at least LEAST_S.
    """
    me = standing.me(now)
    left = [one.device_s for one in (me.left, me.campaign_left) if one and one.device_s is not None]
    return max(min([TRIAL_S, *left]), LEAST_S)
