"""An own method from `new` to a verdict on an embedded task, with real features: minutes."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from aarlab.cli.main import cli

pytestmark = [pytest.mark.slow, pytest.mark.model]


def aarlab(*words: str) -> Result:
    found = CliRunner().invoke(cli, [*words], standalone_mode=False)
    assert found.exception is None, found.output
    return found


def test_the_worked_example_is_checked_run_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AARLAB_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    aarlab("task", "build", "math", "--seed", "7", "--states-only")
    aarlab("method", "new", "mine")
    aarlab("method", "new", "other", "--like", "confident")
    assert "meets the contract" in aarlab("method", "check", "mine").output
    words = ["--task", "math-states", "--seeds", "3", "--seed-base", "1", "--json"]
    found = aarlab("method", "verify", "mine", "other", *words)
    assert found.return_value == 0
    mine, other = json.loads(found.stdout)
    assert (mine["name"], other["name"]) == ("mine", "other")
    for verdict in (mine, other):
        assert verdict["low"] < verdict["pgr"] < verdict["high"] and verdict["unit"] == "pgr"
        assert verdict["class"] not in ("suspect", "failed", "no gap"), verdict["flags"]
        assert verdict["beats_vanilla"]["low"] < verdict["beats_vanilla"]["high"]
