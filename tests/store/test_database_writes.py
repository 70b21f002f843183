"""A write is all or nothing, writers queue, and a second server is turned away."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postgres import Postgres

from aarlab.core.errors import Conflict, Damaged, Unavailable
from aarlab.core.wire import Predictions, Run
from aarlab.store import forum, idempotency, log
from aarlab.store.database import Database
from aarlab.store.place import Place
from aarlab.store.predictions import pack, unpack


async def test_a_write_that_fails_leaves_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.write() as tx:
            await log.append(tx, "note", {"n": 1})
            await idempotency.remember(tx, "a", "k", "r", "{}")
            raise ZeroDivisionError
    async with database.read() as tx:
        assert (await log.head(tx)).seq == 0
        assert await idempotency.recall(tx, "a", "k", "r") is None


async def test_many_writers_make_one_chain(database: Database, place: Place) -> None:
    async def one(number: int) -> None:
        async with database.write() as tx:
            await log.append(tx, "note", {"n": number})

    await asyncio.gather(*(one(number) for number in range(40)))
    assert (await log.check_log(place)).seq == 40


async def test_a_reader_sees_committed_writes_only(database: Database) -> None:
    async with database.write() as tx:
        await log.append(tx, "note", {})
        async with database.read() as other:
            assert (await log.head(other)).seq == 0
    async with database.read() as other:
        assert (await log.head(other)).seq == 1


async def test_a_key_stands_for_one_request_of_one_actor(database: Database) -> None:
    async with database.write() as tx:
        await idempotency.remember(tx, "a", "k", "request", '{"x":1}')
        assert await idempotency.recall(tx, "a", "k", "request") == '{"x":1}'
        assert await idempotency.recall(tx, "b", "k", "request") is None
        with pytest.raises(Conflict, match="another request"):
            await idempotency.recall(tx, "a", "k", "different")


async def test_a_second_server_on_an_sqlite_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "platform.db"
    first, second = Database(path), Database(path)
    await first.open()
    with pytest.raises(Conflict, match="another server"):
        await second.open()
    assert (tmp_path / "platform.db.lock").stat().st_mode & 0o077 == 0
    await first.close()
    await second.open()
    await second.close()


async def test_two_servers_on_one_postgresql_make_one_chain(postgres: Postgres) -> None:
    """Each reads the head, waits, and appends: without the advisory lock two would collide."""
    place = postgres.fresh()
    servers = [Database(place) for _ in range(3)]
    await asyncio.gather(*(server.open() for server in servers))

    async def one(number: int) -> None:
        async with servers[number % 3].write() as tx:
            before = (await log.head(tx)).seq
            await asyncio.sleep(0.002)
            await log.append(tx, "note", {"n": number})
            assert (await log.head(tx)).seq == before + 1

    await asyncio.gather(*(one(number) for number in range(60)))
    assert (await log.check_log(place)).seq == 60
    for server in servers:
        await server.close()


async def test_a_read_is_one_view_and_can_write_nothing(database: Database, place: Place) -> None:
    async with database.read() as view:
        assert (await log.head(view)).seq == 0
        async with database.write() as tx:
            await log.append(tx, "note", {})
        assert (await log.head(view)).seq == 0
    if not isinstance(place, Path):
        with pytest.raises(Unavailable):
            async with database.read() as view:
                await log.append(view, "note", {})


async def test_counters_are_64_bits_wide(database: Database) -> None:
    async with database.read() as tx:
        assert (await forum.page(tx, 2**53, 10)).findings == []


probability = st.floats(0, 1)


@given(
    rows=st.integers(1, 5).flatmap(
        lambda n: st.tuples(
            st.lists(st.text(), min_size=n, max_size=n),
            st.lists(st.lists(probability, min_size=n, max_size=n), min_size=1, max_size=3),
        )
    ),
    seed=st.integers(0, 2**63 - 10),
)
@settings(max_examples=60, deadline=None)
def test_predictions_come_back_as_they_were(rows, seed: int) -> None:
    ids, probs = rows
    runs = [Run(seed=seed + at, probs=run) for at, run in enumerate(probs)]
    assert unpack(pack(Predictions(ids, runs))) == Predictions(ids, runs)


def test_a_damaged_blob_is_damaged() -> None:
    with pytest.raises(Damaged):
        unpack(b"nothing")
    blob = pack(Predictions(["a"], [Run(seed=0, probs=[0.5])]))
    with pytest.raises(Damaged):
        unpack(blob[:-3])
