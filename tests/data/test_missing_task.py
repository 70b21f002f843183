"""What is said of a task that is not here: a command that works, or the name that was meant."""

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aarlab.cli.main import cli
from aarlab.core.errors import NotFound
from aarlab.core.layout import EMBEDDED, DataRoot, build_command
from aarlab.testbed.tasks.generators.registry import TASKS


def said(root: DataRoot, task: str) -> str:
    with pytest.raises(NotFound) as found:
        root.find_task(task)
    return str(found.value)


@pytest.fixture
def root(tmp_path: Path) -> DataRoot:
    folder = tmp_path / "public" / "sciq@0123456789ab"
    folder.mkdir(parents=True)
    (folder / "task.json").write_text("{}", encoding="utf-8")
    return DataRoot(tmp_path)


def test_the_embedded_tasks_are_those_that_the_list_offers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AARLAB_HOME", str(tmp_path))
    shown = CliRunner().invoke(cli, ["task", "list", "--json"])
    offered = {row["task"]: row["state"] for row in json.loads(shown.output)}
    assert offered == {name: build_command(name) for name in EMBEDDED}
    assert set(TASKS.built_in) <= set(EMBEDDED)
    in_words = CliRunner().invoke(cli, ["task", "list"]).output
    assert f"not built yet: {', '.join(EMBEDDED)}" in " ".join(in_words.split())


@pytest.mark.parametrize(
    "name, options",
    [
        ("math", []),
        ("chat-states", ["--states-only"]),
        ("code-top-blocks", ["--adaptation", "top_blocks"]),
        ("math-with-model-states", ["--states-only", "--with-model"]),
    ],
)
def test_an_embedded_task_comes_with_its_command(
    root: DataRoot, name: str, options: list[str]
) -> None:
    command = build_command(name)
    assert command is not None and said(root, name).endswith(f"To get it: {command}")
    words = shlex.split(command)
    assert words == ["aarlab", "task", "build", name.split("-")[0], *options]
    shown = CliRunner().invoke(cli, [*words[1:], "--help"])
    assert shown.exit_code == 0, shown.output  # the options exist


@pytest.mark.parametrize("typed, meant", [("sicq", "sciq?"), ("maht", "math (not built yet: ")])
def test_a_typing_error_names_the_task_that_was_meant(
    root: DataRoot, typed: str, meant: str
) -> None:
    text = said(root, typed)
    assert f"Did you mean {meant}" in text and "aarlab task list" in text
    assert f"build {typed}" not in text and f"--name {typed}" not in text


def test_another_name_gets_the_list_and_the_import(root: DataRoot) -> None:
    text = said(root, "zebra")
    assert "There are sciq, oversight, oversight-single, oversight-unseen, math, chat, code" in text
    assert "task build" not in text and text.endswith("aarlab task import FOLDER --name zebra")
