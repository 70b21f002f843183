"""A write is all or nothing, writers queue, and a second server is turned away."""

import asyncio
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from postgres import Postgres
from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError

from aarlab.core.errors import Conflict, Damaged, Unavailable
from aarlab.core.wire import NewAar, Predictions, Run
from aarlab.core.wire_service import FindingQuery
from aarlab.server.writes import Writing, refusals_logged
from aarlab.store import aars, forum, log, shared
from aarlab.store.database import Database
from aarlab.store.place import SESSION, Place, database_url, read_options, reading_engine, shown
from aarlab.store.shared import claim
from aarlab.store.submissions import pack_predictions, unpack_predictions
from aarlab.store.tables import sessions


async def test_a_write_that_fails_leaves_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.write() as tx:
            await log.append(tx, "note", {"n": 1})
            await shared.remember(tx, "a", "k", "r", "{}")
            raise ZeroDivisionError
    async with database.read() as tx:
        assert (await log.head(tx)).seq == 0
        assert await shared.recall(tx, "a", "k", "r") is None


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
        await shared.remember(tx, "a", "k", "request", '{"x":1}')
        assert await shared.recall(tx, "a", "k", "request") == '{"x":1}'
        assert await shared.recall(tx, "b", "k", "request") is None
        with pytest.raises(Conflict, match="another request"):
            await shared.recall(tx, "a", "k", "different")


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


async def _end_sessions(postgres: Postgres, place: Place) -> None:
    """The database ends all sessions of the servers, as on a restart or a failover."""
    name = postgres.name(str(place))
    query = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    await asyncio.to_thread(postgres.sql, "postgres", query)


@pytest.mark.parametrize("when", ["before a statement", "before the commit", "before the write"])
async def test_a_connection_that_breaks_leaves_all_or_nothing(
    postgres: Postgres, when: str
) -> None:
    place = postgres.fresh()
    database = Database(place)
    await database.open()

    async def write() -> None:
        async with database.write() as tx:
            await log.append(tx, "note", {"n": 1})
            if when == "before a statement":
                await _end_sessions(postgres, place)
            await log.append(tx, "note", {"n": 2})
            if when == "before the commit":
                await _end_sessions(postgres, place)

    if when == "before the write":
        await _end_sessions(postgres, place)  # found out and made good before the first statement
        await write()
    else:
        with pytest.raises(Unavailable):
            await write()
    expected = 2 if when == "before the write" else 0
    assert (await log.check_log(place)).seq == expected
    async with database.write() as tx:
        await log.append(tx, "note", {"n": 3})
    assert (await log.check_log(place)).seq == expected + 1
    await database.close()


async def test_a_server_that_hangs_in_a_write_is_cut_off(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sits on the lock; the other is told of an outage, and goes on when the lock is free."""
    monkeypatch.setitem(SESSION, "idle_in_transaction_session_timeout", "1500ms")
    monkeypatch.setitem(SESSION, "lock_timeout", "200ms")
    place = postgres.fresh()
    hanging, other = Database(place), Database(place)
    await hanging.open()
    await other.open()
    refused = 0
    with pytest.raises(Unavailable):
        async with hanging.write() as tx:
            await log.append(tx, "note", {"of": "hanging"})
            while True:
                try:
                    async with other.write() as mine:
                        await log.append(mine, "note", {"of": "other"})
                    break
                except Unavailable:
                    refused += 1
            await log.append(tx, "note", {"of": "hanging"})
    assert refused > 0 and (await log.check_log(place)).seq == 1
    await hanging.close()
    await other.close()


async def test_a_locked_sqlite_file_is_an_outage(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "platform.db"
    monkeypatch.setattr("aarlab.store.place.PRAGMAS", ("PRAGMA busy_timeout=10",))
    database = Database(path)
    await database.open()
    thief = sqlite3.connect(path)
    thief.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable):
        async with database.write() as tx:
            await log.append(tx, "note", {})
    thief.rollback()
    thief.close()
    async with database.write() as tx:
        await log.append(tx, "note", {})
    await database.close()


async def test_what_servers_must_share_is_claimed_by_the_first(database: Database) -> None:
    async with database.write() as tx:
        await claim(tx, "key", "1")
        await claim(tx, "key", "1")
        with pytest.raises(Conflict, match="another key"):
            await claim(tx, "key", "2")


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


async def test_the_reader_of_the_log_can_write_nothing(database: Database, place: Place) -> None:
    engine = reading_engine(place)
    async with engine.connect() as plain:
        reader = await plain.execution_options(**read_options(place))
        with pytest.raises(DBAPIError, match=r"read-?only"):
            async with reader.begin():
                await log.append(reader, "note", {})
    await engine.dispose()
    async with database.read() as tx:
        assert (await log.head(tx)).seq == 0


async def test_sessions_of_postgresql_have_limits(postgres: Postgres) -> None:
    database = Database(postgres.fresh())
    await database.open()
    async with database.read() as tx:
        for name in ("lock_timeout", "idle_in_transaction_session_timeout"):
            assert await tx.scalar(text(f"SHOW {name}")) != "0", name
    await database.close()


async def test_an_outage_is_no_refusal(database: Database) -> None:
    platform = SimpleNamespace(store=SimpleNamespace(database=database))
    wanted = Writing(platform, "a", "k", "POST /v1/snapshots", "f" * 64, "")  # type: ignore[arg-type]
    for error, entries in ((Unavailable("the bucket does not answer"), 0), (Conflict("x"), 1)):
        with pytest.raises(type(error)):
            async with refusals_logged(wanted):
                raise error
        async with database.read() as tx:
            assert (await log.head(tx)).seq == entries


async def test_research_time_never_runs_back(database: Database) -> None:
    """The server that was asked before had a clock a little ahead of this one's."""
    ahead = (datetime.now(UTC) + timedelta(seconds=4)).isoformat(timespec="microseconds")
    async with database.write() as tx:
        await aars.add(tx, NewAar(name="a", researcher="r", direction="d"), "hash")
        await aars.open_session(tx, "a")
        await aars.touch(tx, "a")
        await tx.execute(update(sessions).values(last_seen_at=ahead))
        await aars.touch(tx, "a")
        assert [s.last_seen_at for s in await aars.all_sessions(tx)] == [ahead]


async def test_counters_are_64_bits_wide(database: Database) -> None:
    async with database.read() as tx:
        assert (await forum.page(tx, FindingQuery(after=2**53, limit=10))).findings == []


def test_urls_are_read_and_shown_without_what_is_secret() -> None:
    url = "postgresql://me:s3cret@db.example:5433/lab?sslmode=require"
    parsed = database_url(url)
    assert parsed.drivername == "postgresql+asyncpg" and parsed.query == {"ssl": "require"}
    assert parsed.password == "s3cret"
    assert shown(url) == "postgresql://db.example:5433/lab"
    assert shown("postgres://me@/lab?host=/run/pg&password=x") == "postgresql:///run/pg/lab"
    assert "s3cret" not in repr(Database(url)._engine)


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
    assert unpack_predictions(pack_predictions(Predictions(ids, runs))) == Predictions(ids, runs)


def test_a_damaged_blob_is_damaged() -> None:
    with pytest.raises(Damaged):
        unpack_predictions(b"nothing")
    blob = pack_predictions(Predictions(["a"], [Run(seed=0, probs=[0.5])]))
    with pytest.raises(Damaged):
        unpack_predictions(blob[:-3])
