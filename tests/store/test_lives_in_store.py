"""Lives of an AAR at the store: of many that open and write at once, only the newest one writes."""

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
from aarlab.core.wire import NewAar
from aarlab.store import aars, log, shared
from aarlab.store.database import Database
from aarlab.store.place import Place
from aarlab.store.tables import aars as aars_table
from aarlab.store.tables import log as log_table

COPIES = 6


async def join(database: Database, *names: str) -> None:
    async with database.write() as tx:
        for name in names:
            await aars.add(tx, NewAar(name=name, researcher="r", direction="d"), f"sha-{name}")


class Copy:
    """A process of the AAR: opens a session, writes until it is refused."""

    def __init__(self, database: Database, number: int) -> None:
        self.database, self.number, self.life = database, number, 0
        self.accepted = self.refused = 0

    async def open(self) -> None:
        async with self.database.write() as tx:
            made = await aars.open_session(tx, "ada")
            await log.append(tx, "session", {"aar": "ada", "life": made.life})
        self.life = made.life

    async def write(self, part: int) -> None:
        key = f"{self.number}-{part}"
        try:
            async with self.database.write() as tx:
                assert await shared.recall(tx, "ada", key, "sha", self.life) is None
                await log.append(tx, "write", {"life": self.life})
                await shared.remember(tx, "ada", key, "sha", "{}")
        except Superseded:
            self.refused += 1
            raise
        self.accepted += 1


async def check(database: Database) -> list[int]:
    """Every write is of the life that was the newest when it was made; returns the lives."""
    async with database.read() as tx:
        rows = (await tx.execute(select(log_table).order_by(log_table.c.seq))).all()
        newest = await tx.scalar(select(aars_table.c.life).where(aars_table.c.name == "ada"))
    lives, current = [], 0
    for row in rows:
        life = json.loads(row.body)["life"]
        if row.kind == "session":
            assert life == current + 1, "counted one by one"
            current = life
        else:
            assert life == current, f"life {life} wrote after life {current} had begun"
            lives.append(life)
    assert newest == current
    return lives


async def _lives(databases: list[Database], seed: int, kills: float) -> None:
    """Copies begin at random moments; `kills` of the requests are cut off where they are."""
    rng = random.Random(seed)
    await join(databases[0], "ada")
    copies = [Copy(databases[i % len(databases)], i) for i in range(COPIES)]

    async def live(copy: Copy) -> None:
        await asyncio.sleep(rng.uniform(0, 0.02))
        await copy.open()
        for part in range(30):
            await copy.write(part)
            await asyncio.sleep(rng.uniform(0, 0.002))

    async def killed(copy: Copy) -> None:
        task = asyncio.ensure_future(live(copy))
        await asyncio.sleep(rng.uniform(0, 0.03))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    ends = await asyncio.gather(
        *(killed(copy) if rng.random() < kills else live(copy) for copy in copies),
        return_exceptions=True,
    )
    others = [end for end in ends if not isinstance(end, Superseded | None)]
    assert not others, others
    lives = await check(databases[0])
    if not kills:
        assert sorted(copy.life for copy in copies) == list(range(1, COPIES + 1))
        [last] = [copy for copy in copies if copy.life == COPIES]
        assert (last.accepted, last.refused) == (30, 0), "the newest one is never refused"
        assert len(lives) == sum(copy.accepted for copy in copies)


@pytest.mark.parametrize("kills", [0.0, 0.7], ids=["whole", "killed"])
@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.gate) for n in (1, 2, 3))])
async def test_concurrent_lives(place: Place, seed: int, kills: float) -> None:
    async with servers(place) as databases:
        await _lives(databases, seed, kills)


steps = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["open", "write"])), max_size=30)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_any_order_of_openings_and_writes(made: list[tuple[int, str]]) -> None:
    """A copy is accepted exactly as long as none has opened after it."""

    async def run() -> None:
        with TemporaryDirectory() as folder:
            async with servers(Path(folder) / "platform.db") as [database]:
                await join(database, "ada")
                copies, newest = [Copy(database, i) for i in range(4)], -1
                for part, (number, what) in enumerate(made):
                    copy = copies[number]
                    if what == "open":
                        await copy.open()
                        newest = number
                    elif number == newest:
                        await copy.write(part)
                    elif copy.life:
                        with pytest.raises(Superseded):
                            await copy.write(part)
                await check(database)

    asyncio.run(run())


async def test_lives_are_of_one_aar(database: Database) -> None:
    await join(database, "ada", "bob")
    async with database.write() as tx:
        assert [(await aars.open_session(tx, "ada")).life for _ in range(3)] == [1, 2, 3]
        assert (await aars.open_session(tx, "bob")).life == 1
        await shared.check_life(tx, "bob", 1)
        with pytest.raises(Superseded, match=r"ada has begun \(its life 3; this is life 1\)"):
            await shared.check_life(tx, "ada", 1)


async def test_an_older_life_does_not_get_its_stored_answer(database: Database) -> None:
    """Nor does it learn that a key was used: it must stop in both cases."""
    await join(database, "ada")
    async with database.write() as tx:
        await aars.open_session(tx, "ada")
        await shared.remember(tx, "ada", "k", "sha", "{}")
        assert await shared.recall(tx, "ada", "k", "sha", 1) == "{}"
        with pytest.raises(Conflict):
            await shared.recall(tx, "ada", "k", "other", 1)
        await aars.open_session(tx, "ada")
        for sha in ("sha", "other"):
            with pytest.raises(Superseded):
                await shared.recall(tx, "ada", "k", sha, 1)
        assert await shared.recall(tx, "ada", "k", "sha") == "{}", "without a life as before"
