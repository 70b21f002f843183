"""Any edit, removal, move or truncation of the stored log is found and named."""

import asyncio
import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aarlab.core.chain import GENESIS, LogHead
from aarlab.core.errors import BadInput, Damaged, NotFound
from aarlab.store import log
from aarlab.store.database import Database

ENTRIES = 8


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("log") / "platform.db"

    async def fill() -> None:
        database = Database(path)
        await database.open()
        for number in range(ENTRIES):
            async with database.write() as tx:
                await log.append(tx, "note", {"n": number, "x": 0.1 * number, "s": "é\u2028"})
        await database.close()

    asyncio.run(fill())
    return path


def _copy(written: Path, folder: Path) -> Path:
    copy = folder / "copy.db"
    copy.unlink(missing_ok=True)
    shutil.copy(written, copy)
    return copy


def _change(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_an_intact_log_has_a_head(written: Path) -> None:
    head = log.verify_log(written)
    assert head.seq == ENTRIES and log.verify_log(written, head) == head


@given(seq=st.integers(1, ENTRIES), column=st.sampled_from(["body", "kind", "at", "hash"]))
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_an_edit_is_named(written: Path, tmp_path: Path, seq: int, column: str) -> None:
    copy = _copy(written, tmp_path)
    value = json.dumps({"n": 99}) if column == "body" else "changed"
    _change(copy, f"UPDATE log SET {column} = '{value}' WHERE seq = {seq}")
    with pytest.raises(Damaged, match=f"entry {seq} "):
        log.verify_log(copy)


@given(seq=st.integers(1, ENTRIES - 1))
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_removal_is_named_even_if_renumbered(written: Path, tmp_path: Path, seq: int) -> None:
    copy = _copy(written, tmp_path)
    _change(copy, f"DELETE FROM log WHERE seq = {seq}")
    with pytest.raises(Damaged, match=f"entry {seq} is missing"):
        log.verify_log(copy)
    for later in range(seq + 1, ENTRIES + 1):
        _change(copy, f"UPDATE log SET seq = {later - 1} WHERE seq = {later}")
    with pytest.raises(Damaged, match=f"entry {seq} "):
        log.verify_log(copy)


@given(first=st.integers(1, ENTRIES), second=st.integers(1, ENTRIES))
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_swap_is_named(written: Path, tmp_path: Path, first: int, second: int) -> None:
    if first == second:
        return
    copy = _copy(written, tmp_path)
    _change(
        copy,
        f"UPDATE log SET seq = -1 WHERE seq = {first}",
        f"UPDATE log SET seq = {first} WHERE seq = {second}",
        f"UPDATE log SET seq = {second} WHERE seq = -1",
    )
    with pytest.raises(Damaged, match=f"entry {min(first, second)} "):
        log.verify_log(copy)


def test_truncation_is_found_against_an_exported_head(written: Path, tmp_path: Path) -> None:
    exported = tmp_path / "head.json"
    log.export_head(exported, log.verify_log(written))
    copy = _copy(written, tmp_path)
    _change(copy, f"DELETE FROM log WHERE seq = {ENTRIES}")
    assert log.verify_log(copy).seq == ENTRIES - 1
    with pytest.raises(Damaged, match="exported head"):
        log.verify_log(copy, log.read_head(exported))


def test_no_database_a_broken_one_and_a_broken_head(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        log.verify_log(tmp_path / "none.db")
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"not a database" * 100)
    with pytest.raises(Damaged):
        log.verify_log(broken)
    with pytest.raises(BadInput):
        log.read_head(broken)


def test_reading_takes_no_lock_and_changes_nothing(written: Path) -> None:
    before = written.read_bytes()
    log.verify_log(written)
    assert written.read_bytes() == before


def test_an_empty_log_has_the_genesis_head(tmp_path: Path) -> None:
    async def make() -> None:
        database = Database(tmp_path / "new.db")
        await database.open()
        await database.close()

    asyncio.run(make())
    assert log.verify_log(tmp_path / "new.db") == LogHead(0, GENESIS)
