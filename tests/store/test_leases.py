"""Leases of re-runs at the store: one holder at a time, and each is settled once, whatever dies."""

import asyncio
import json
import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from store_servers import servers

from aarlab.core.errors import Conflict, Superseded
from aarlab.core.wire import NewVerification, Snapshot
from aarlab.core.wire_verifiers import LEASE_S, VerifierCall
from aarlab.store import leases, log, verifications
from aarlab.store.database import Database
from aarlab.store.place import Place
from aarlab.store.tables import leases as table
from aarlab.store.tables import log as log_table

PODS = ("verifiers-1", "verifiers-2", "verifiers-3")
RUNS = 5
MADE = {
    **{"aar": "ada", "name": "m", "message": "", "parent": None},
    **{"at": "2026-01-01", "n_files": 1, "n_bytes": 1},
}


async def queue(database: Database, count: int = RUNS) -> list[str]:
    made = []
    for number in range(count):
        snapshot = Snapshot(id=f"s{number}", **MADE)
        async with database.write() as tx:
            wanted = NewVerification(snapshot=snapshot.id, task="t", n_seeds=2)
            made.append((await verifications.add(tx, wanted, snapshot)).id)
    return made


class Pod:
    """A pod as the platform sees it: its newest process, and what that one believes to hold."""

    def __init__(self, database: Database, name: str) -> None:
        self.database, self.name = database, name
        self.call: VerifierCall | None = None
        self.older: list[VerifierCall] = []
        self.holds: set[str] = set()

    async def join(self) -> None:
        """Begin a process; the one before was killed."""
        async with self.database.write() as tx:
            number = await leases.join(tx, self.name)
        if self.call is not None:
            self.older.append(self.call)
        self.call, self.holds = VerifierCall(pod=self.name, number=number), set()

    async def claim(self, now: float) -> str | None:
        async with self.database.write() as tx:
            run = await leases.claim(tx, self.call, self.holds, now)
        if run is None:
            return None
        assert run.id not in self.holds, "it was given twice"
        self.holds.add(run.id)
        return run.id

    async def renew(self, now: float) -> None:
        async with self.database.write() as tx:
            self.holds = set(await leases.renew(tx, self.call, self.holds, now))

    async def settle(self, run: str) -> None:
        """As the service does it: state, lease and result in one transaction."""
        async with self.database.write() as tx:
            queued = await verifications.get(tx, run)
            if queued.state != "queued":
                raise Conflict("settled already")
            await leases.held(tx, self.call, run)
            await verifications.settle(tx, queued.model_copy(update={"state": "done"}), None)
            await leases.end(tx, run)
            await log.append(tx, "verified", {"id": run})


steps = st.lists(
    st.tuples(
        st.sampled_from(PODS),
        st.sampled_from(["join", "claim", "claim", "renew", "settle", "old", "free", "lost"]),
        st.floats(0, LEASE_S * 0.8),
    ),
    max_size=60,
)


class Course:
    """What the leases must be, told step by step beside the store."""

    def __init__(self, database: Database, runs: list[str]) -> None:
        self.database, self.runs = database, runs
        self.pods = {name: Pod(database, name) for name in PODS}
        self.now = 1000.0
        self.until = dict[str, tuple[str, float]]()  # holder and end of each lease
        self.settled = list[str]()

    async def step(self, name: str, what: str, passed_s: float) -> None:
        self.now += passed_s
        pod = self.pods[name]
        if what == "join" or pod.call is None:
            await pod.join()
            self.until = {r: u for r, u in self.until.items() if u[0] != name}
        elif what == "claim":
            await self._claim(pod)
        elif what == "lost":  # the answer to a claim was lost
            known = set(pod.holds)
            await self._claim(pod)
            pod.holds = known
        elif what == "renew":
            await pod.renew(self.now)
            mine = {r for r, (holder, _) in self.until.items() if holder == name}
            assert pod.holds <= mine
            self.until |= dict.fromkeys(pod.holds, (name, self.now + LEASE_S))
        elif what == "settle" and pod.holds:
            await self._settle(pod, min(pod.holds))
        elif what == "old" and pod.older:
            await self._refused(pod.older[-1])
        elif what == "free":
            async with self.database.write() as tx:
                await leases.keep_only(tx, pod.call, ())
            self.until = {r: u for r, u in self.until.items() if u[0] != name}
            pod.holds = set()
        await self._check()

    async def _claim(self, pod: Pod) -> None:
        known = set(pod.holds)
        run = await pod.claim(self.now)
        mine = [r for r, u in self.until.items() if u[0] == pod.name and r not in known]
        for each in mine:  # given in an answer that was lost
            del self.until[each]
        renewed = [r for r in known if self.until.get(r, ("",))[0] == pod.name]
        self.until |= dict.fromkeys(renewed, (pod.name, self.now + LEASE_S))
        taken = {r for r, (_, until) in self.until.items() if until > self.now}
        free = [r for r in self.runs if r not in {*self.settled, *known, *taken}]
        assert (run in free) if free else run is None
        if run is not None:
            self.until[run] = (pod.name, self.now + LEASE_S)

    async def _settle(self, pod: Pod, run: str) -> None:
        if run not in self.settled and self.until.get(run, ("",))[0] == pod.name:
            await pod.settle(run)
            self.settled.append(run)
            del self.until[run]
        else:
            with pytest.raises(Conflict):
                await pod.settle(run)
        pod.holds.discard(run)

    async def _refused(self, call: VerifierCall) -> None:
        for ask in (
            lambda tx: leases.claim(tx, call, (), self.now),
            lambda tx: leases.renew(tx, call, self.runs, self.now),
            lambda tx: leases.held(tx, call, self.runs[0]),
            lambda tx: leases.keep_only(tx, call, ()),
        ):
            with pytest.raises(Superseded, match="a newer process of verifiers-"):
                async with self.database.write() as tx:
                    await ask(tx)

    async def _check(self) -> None:
        """The store has one holder for each lease that has not ended: the one that it must be."""
        async with self.database.read() as tx:
            found = await leases.running(tx, self.now)
        held = {r: h for r, (h, until) in self.until.items() if until > self.now}
        assert {one.run: one.pod for one in found} == held
        for one in found:
            assert one.number == self.pods[one.pod].call.number, "an older process holds nothing"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_any_order_of_claims_renewals_ends_and_kills(made: list[tuple[str, str, float]]) -> None:
    async def run() -> None:
        with TemporaryDirectory() as folder:
            async with servers(Path(folder) / "platform.db") as [database]:
                course = Course(database, await queue(database))
                for name, what, passed_s in made:
                    await course.step(name, what, passed_s)
                assert len(course.settled) == len(set(course.settled))
                while len(course.settled) < RUNS:  # whatever happened, the rest can be done
                    await course.step("verifiers-1", "claim", LEASE_S)
                    await course.step("verifiers-1", "settle", 0.0)

    asyncio.run(run())


async def settled_in(database: Database) -> list[str]:
    """The re-runs that were settled, as often as they were."""
    async with database.read() as tx:
        bodies = await tx.scalars(select(log_table.c.body).where(log_table.c.kind == "verified"))
        return [json.loads(body)["id"] for body in bodies]


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.gate) for n in (1, 2, 3))])
async def test_pods_that_claim_at_once_and_are_killed(place: Place, seed: int) -> None:
    """Real time, several connections: each re-run is settled once, and by who held it."""
    rng = random.Random(seed)
    async with servers(place) as databases:
        runs = await queue(databases[0], 12)

        async def work(pod: Pod) -> None:
            await pod.join()
            while len(await settled_in(pod.database)) < len(runs):
                run = await pod.claim(1000.0)  # no lease ends: a kill frees it, by the next join
                if run is None:
                    await asyncio.sleep(0.005)
                    continue
                await asyncio.sleep(rng.uniform(0, 0.01))
                await pod.settle(run)
                pod.holds.discard(run)

        async def lives(number: int) -> None:
            pod = Pod(databases[number % len(databases)], PODS[number])
            for _ in range(4):
                task = asyncio.ensure_future(work(pod))
                await asyncio.wait([task], timeout=rng.uniform(0, 0.08))
                task.cancel()
                found = (await asyncio.gather(task, return_exceptions=True))[0]
                assert found is None or isinstance(found, asyncio.CancelledError), found
            await work(pod)

        await asyncio.gather(*(lives(number) for number in range(len(PODS))))
        assert sorted(await settled_in(databases[0])) == sorted(runs), "each of them once"
        async with databases[0].read() as tx:
            states = [one.state for one in await verifications.in_state(tx)]
            left = (await tx.execute(select(table.c.run))).all()
        assert states == ["done"] * len(runs) and left == []


async def test_a_lease_that_ended_is_its_holders_again_unless_another_took_it(
    database: Database,
) -> None:
    [run, other] = await queue(database, 2)
    first, second = Pod(database, PODS[0]), Pod(database, PODS[1])
    for pod in (first, second):
        await pod.join()
    assert await first.claim(0.0) == run
    late = LEASE_S + 1
    await first.renew(late)
    assert first.holds == {run}, "nobody took it meanwhile"
    assert await second.claim(late) == other
    assert await second.claim(3 * late) == run
    await first.renew(3 * late)
    assert first.holds == set()
    with pytest.raises(Conflict, match=f"verifiers-1 does not hold {run}: another has it"):
        await first.settle(run)
    await second.settle(run)
