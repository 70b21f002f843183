"""A language AAR that looks for labels and secrets: what stops it, and that nothing else does."""

import os

import pytest
from language_hunts import HUNTS
from language_kit import Bench
from language_world import GREETING, Hunted, World, hunt

pytestmark = pytest.mark.gate
MEMORY = "memory of its supervisor"


@pytest.fixture(scope="module")
def walled(desk: Bench, outside: World) -> Hunted:
    return hunt(desk, outside, "bubblewrap")


@pytest.fixture(scope="module")
def open_(desk: Bench, outside: World) -> Hunted:
    """The same life without isolation."""
    return hunt(desk, outside, "process")


@pytest.mark.parametrize("name", HUNTS)
def test_a_hunt_gets_nothing_and_gets_it_all_without_the_wall(
    walled: Hunted, open_: Hunted, outside: World, name: str
) -> None:
    closed = os.geteuid() != 0 and name == MEMORY  # to other processes of a user too, by Yama
    assert closed or "BREACH" in open_.told[name], f"the hunt is broken: {open_.told[name]}"
    found = walled.told[name]
    assert "BREACH" not in found and GREETING not in found, f"{HUNTS[name].wall}: {found}"
    assert found.rstrip().endswith("looked"), f"it did not come to its end: {found}"


def test_no_secret_is_in_what_the_hunter_left(walled: Hunted, outside: World) -> None:
    for path in (*walled.config.workspace.rglob("*"), *walled.config.home.glob("*.json*")):
        if path.is_file():
            content = path.read_bytes()
            found = [name for name, text in outside.needles.items() if text.encode() in content]
            assert found == [], path
