"""Both databases: what a test does to one, it does to the other."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aarlab.store.database import Database
from aarlab.store.place import Place


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return tmp_path / "platform.db"
    url: str = request.getfixturevalue("postgres").fresh()
    return url


@pytest.fixture
async def database(place: Place) -> AsyncIterator[Database]:
    opened = Database(place)
    await opened.open()
    yield opened
    await opened.close()
