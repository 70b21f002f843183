"""Each import contract goes red when it is broken: a forbidden import in a copy of the sources."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BREAKS = {
    "Floors": ("store/database.py", "import aarlab.agents.config"),
    "Only server.app and cli.operator open the vault": (
        "campaign/runner.py",
        "import aarlab.vault.scorer",
    ),
    "Server side and report never load torch": ("report/view.py", "import torch"),
    "A method reaches students by their client alone": (
        "students/client.py",
        "import aarlab.students.server",
    ),
    "AARs, test bed, client and sandbox know no database": (
        "agents/state.py",
        "import sqlalchemy",
    ),
}


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(folder / "src"), "PATH": "/usr/bin:/bin"},
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_tree_keeps_all_contracts(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout
    assert f"{len(BREAKS)} kept, 0 broken" in done.stdout


@pytest.mark.parametrize("contract", BREAKS)
def test_a_forbidden_import_breaks_its_contract(copy: Path, contract: str) -> None:
    file, line = BREAKS[contract]
    path = copy / "src" / "aarlab" / file
    path.write_text(path.read_text() + f"\n{line}\n")
    done = lint(copy)
    assert done.returncode == 1
    broken = [row for row in done.stdout.splitlines() if row.rstrip().endswith("BROKEN")]
    assert any(row.startswith(contract) for row in broken), done.stdout
