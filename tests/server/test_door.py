"""A crash tells the caller nothing and the log no data; pace and door work alone."""

import logging
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from aarlab.core.errors import TooManyRequests
from aarlab.server.middleware import Door, Pace
from aarlab.store import log
from aarlab.store.database import Database

SECRET = "label-of-row-17-is-1"


async def test_a_crash_is_a_500_without_detail(caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI()

    @app.post("/crash")
    async def crash() -> None:
        hidden = SECRET
        raise RuntimeError(f"it was {hidden}")

    app.add_middleware(Door, max_body_bytes=1000)
    transport = httpx.ASGITransport(app)
    with caplog.at_level(logging.DEBUG):
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
            response = await http.post("/crash", content=SECRET)
    assert response.status_code == 500 and response.json()["code"] == "error"
    assert SECRET not in response.text and SECRET not in caplog.text
    assert (
        "RuntimeError" in caplog.text and "crash" in caplog.text and "test_door.py" in caplog.text
    )


async def test_a_full_disk_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    """A real SQLite file that may not grow: the write fails, the rows before it stay."""
    database = Database(tmp_path / "small.db")
    await database.open()
    app = FastAPI()

    @app.post("/write")
    async def write() -> None:
        async with database.write() as tx:
            await tx.exec_driver_sql("PRAGMA max_page_count=1")
            await log.append(tx, "note", {"text": SECRET * 10_000})

    app.add_middleware(Door, max_body_bytes=1000)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as http:
        response = await http.post("/write")
    await database.close()
    assert response.status_code == 507 and "disk is full" in response.json()["message"]
    assert (await log.check_log(tmp_path / "small.db")).seq == 0


def test_the_pace_lets_a_burst_through_and_then_the_rate() -> None:
    now = [0.0]
    pace = Pace(per_s=10, burst=3, clock=lambda: now[0])
    for _ in range(3):
        pace.admit("a")
    with pytest.raises(TooManyRequests, match="10 requests a second"):
        pace.admit("a")
    pace.admit("b")
    now[0] = 0.1
    pace.admit("a")
    with pytest.raises(TooManyRequests):
        pace.admit("a")


def test_a_session_is_extended_at_most_once_a_second() -> None:
    now = [100.0]
    pace = Pace(per_s=10, burst=3, clock=lambda: now[0])
    assert [pace.touch_due("a"), pace.touch_due("a"), pace.touch_due("b")] == [True, False, True]
    now[0] = 101.0
    assert pace.touch_due("a")
