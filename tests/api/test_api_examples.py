"""The examples of the public API run as their first lines say, and keep strict types."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import aarlab
from aarlab.core.layout import DataRoot

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples" / "api").glob("*.py"))


def example(name: str, root: DataRoot, *words: str) -> str:
    """Run an example in a process of its own and return what it prints."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "api" / f"{name}.py"), *words],
        env={"AARLAB_HOME": str(root.path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_own_method(toy_root: DataRoot) -> None:
    said = example("own_method", toy_root, "gauss", "--seeds", "2")
    assert "320 train rows, 240 search rows" in said and "gap: clear" in said
    found = dict(re.findall(r"^(\w+) +PGR ([+-]\d\.\d\d) ", said, re.MULTILINE))
    assert list(found) == ["agreeing_teachers", "vanilla", "guard_majority"]
    vanilla = aarlab.score_method("vanilla", aarlab.open_task("gauss", home=toy_root.path), seeds=2)
    assert vanilla.pgr is not None and found["vanilla"] == f"{vanilla.pgr.value:+.2f}"


def test_search_recipes(toy_root: DataRoot, tmp_path: Path) -> None:
    out = tmp_path / "best.json"
    words = ("gauss", "--draws", "3", "--steps", "3", "--seeds", "1", "--out", str(out))
    said = example("search_recipes", toy_root, *words)
    values = [float(one) for one in re.findall(r"^([+-]\d+\.\d\d)  ", said, re.MULTILINE)]
    assert values and values == sorted(values)
    best = aarlab.Recipe.model_validate(json.loads(out.read_text(encoding="utf-8")))
    score = aarlab.score_method(best, aarlab.open_task("gauss", home=toy_root.path), seeds=1)
    assert score.pgr is not None and f"best of 7: {score.pgr.value:+.2f}" in said


def test_read_export(toy_root: DataRoot) -> None:
    path = ROOT / "docs" / "recorded" / "export.json"
    said = example("read_export", toy_root, str(path))
    recorded = json.loads(path.read_text(encoding="utf-8"))
    lines = re.findall(r"^ +(\d+|-)  ", said, re.MULTILINE)
    ranks = [line["rank"] for line in recorded["leaderboard"]]
    assert lines == ["-" if rank is None else str(rank) for rank in ranks]
    assert "1  hugo: mean of all teachers" in said and "+0.43 [+0.26, +0.60]" in said


@pytest.mark.gate
def test_the_examples_keep_strict_types(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "import aarlab\nrecipe: aarlab.Recipe = aarlab.load_export('x')\n", encoding="utf-8"
    )
    words = ["--strict", "--no-incremental", "--config-file", str(ROOT / "pyproject.toml")]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            *words,
            "--follow-imports",
            "silent",
            *map(str, EXAMPLES),
            str(wrong),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    found = [line for line in done.stdout.split("\n") if ": error:" in line]
    assert found and all("wrong.py:2" in line for line in found), done.stdout + done.stderr
    assert any("CampaignExport" in line for line in found), done.stdout


def test_there_are_three_examples() -> None:
    assert [path.stem for path in EXAMPLES] == ["own_method", "read_export", "search_recipes"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_uses_the_public_api_alone(path: Path) -> None:
    assert not re.search(r"from aarlab\.|import aarlab\.", path.read_text(encoding="utf-8"))
