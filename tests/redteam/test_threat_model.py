"""docs/threat-model.md names tests that exist, and benchmarks/redteam.md has every attack."""

import re
from pathlib import Path

import pytest
from breakers import SOURCES
from language_cheats import CHEATS
from language_hunts import HUNTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text()
CITED = re.findall(r"`([\w/]+/test_\w+\.py)(?:::(test_\w+))?`", PAGE)


def test_there_are_tests_to_name() -> None:
    assert len(CITED) > 50


@pytest.mark.parametrize(("file", "name"), CITED)
def test_a_cited_test_exists(file: str, name: str) -> None:
    text = (ROOT / "tests" / file).read_text()
    assert re.search(rf"^(?:async )?def {name or 'test_'}", text, re.MULTILINE), name


@pytest.mark.parametrize("name", [*HUNTS, *CHEATS, *SOURCES])
def test_the_table_has_each_attack_and_none_got_anything(name: str) -> None:
    table = (ROOT / "benchmarks" / "redteam.md").read_text()
    [line] = [line for line in table.splitlines() if line.startswith(f"| {name} |")]
    assert name in SOURCES or "| nothing |" in line
