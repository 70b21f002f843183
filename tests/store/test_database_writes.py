"""A write is all or nothing, writers queue, and a second server is turned away."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aarlab.core.chain import LogHead
from aarlab.core.errors import Conflict, Damaged
from aarlab.core.wire import Predictions, Run
from aarlab.store import idempotency, log
from aarlab.store.database import Database
from aarlab.store.predictions import pack, unpack


@pytest.fixture
async def database(tmp_path: Path):
    opened = Database(tmp_path / "platform.db")
    await opened.open()
    yield opened
    await opened.close()


async def test_a_write_that_fails_leaves_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.write() as tx:
            await log.append(tx, "note", {"n": 1})
            await idempotency.remember(tx, "a", "k", "r", "{}")
            raise ZeroDivisionError
    async with database.read() as tx:
        assert (await log.head(tx)).seq == 0
        assert await idempotency.recall(tx, "a", "k", "r") is None


async def test_many_writers_make_one_chain(database: Database, tmp_path: Path) -> None:
    async def one(number: int) -> None:
        async with database.write() as tx:
            await log.append(tx, "note", {"n": number})

    await asyncio.gather(*(one(number) for number in range(40)))
    assert log.verify_log(tmp_path / "platform.db").seq == 40


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


async def test_a_second_server_on_the_database_is_refused(database: Database, tmp_path) -> None:
    second = Database(tmp_path / "platform.db")
    with pytest.raises(Conflict, match="another server"):
        await second.open()


async def test_files_are_closed_to_others(database: Database, tmp_path: Path) -> None:
    lock = tmp_path / "platform.db.lock"
    assert lock.stat().st_mode & 0o077 == 0
    assert isinstance(log.verify_log(tmp_path / "platform.db"), LogHead)


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
