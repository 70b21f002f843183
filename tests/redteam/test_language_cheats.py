"""A language AAR's own cheats, each with the wall by which it fails (`Caught.wall`)."""

import pytest
from language_cheats import CHEATS
from language_kit import Bench
from language_world import World


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_gets_nothing(desk: Bench, outside: World, name: str) -> None:
    caught = CHEATS[name](desk, outside)
    assert caught.got == [], f"{caught.wall}: {caught.told}"
