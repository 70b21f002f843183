"""docs/faults.md names tests that exist, and every fault test of language-model AARs."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[2]
PAGE = (TESTS.parent / "docs" / "faults.md").read_text(encoding="utf-8")
CITED = re.compile(r"`(?:([\w/]+\.py)::)?(test_\w+)`")
DEFINED = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)


def defined(file: Path) -> set[str]:
    return set(DEFINED.findall(file.read_text(encoding="utf-8")))


def test_the_cited_tests_exist() -> None:
    """A file is cited by its path below tests, or, for AARs, by its name."""
    agents = {file.name: file for file in (TESTS / "agents").rglob("test_*.py")}
    last, cited = "", CITED.findall(PAGE)
    assert len(cited) > 80
    for named, test in cited:
        last = named or last  # "and `test_more`": of the file before
        file = TESTS / last if (TESTS / last).is_file() else agents[last]
        assert test in defined(file), f"docs/faults.md cites {last}::{test}"


def test_no_fault_test_is_missing() -> None:
    files = ("test_kills.py", "test_clients.py", "test_tools.py")
    tested = {name for file in files for name in defined(Path(__file__).parent / file)}
    assert tested <= {test for _, test in CITED.findall(PAGE)}
