"""docs/faults.md names tests that exist, and every test of this folder."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "faults.md").read_text()
CITED = re.compile(r"`(?:test_\w+\.py::)?(test_\w+)`")
DEFINED = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)


def _defined(folder: Path) -> set[str]:
    return {n for file in folder.rglob("test_*.py") for n in DEFINED.findall(file.read_text())}


def test_the_cited_tests_exist() -> None:
    cited = set(CITED.findall(PAGE))
    assert len(cited) > 20 and cited <= _defined(ROOT / "tests" / "agents")


def test_no_fault_test_is_missing() -> None:
    folder = Path(__file__).parent
    tested = {
        name
        for file in ("test_kills.py", "test_clients.py", "test_tools.py")
        for name in DEFINED.findall((folder / file).read_text())
    }
    assert tested <= set(CITED.findall(PAGE))
