"""README and docs say what is: commands parse, links lead somewhere, no path of a machine."""

import dataclasses
import inspect
import re
import shlex
import subprocess
from pathlib import Path
from typing import get_args

import click
import pytest
import typer

from aarlab.agents.directions import DIRECTIONS
from aarlab.agents.language.prompts import directions
from aarlab.campaign.presets import PRESETS
from aarlab.campaign.spec import load_spec
from aarlab.cli.main import cli
from aarlab.testbed.methods import METHODS
from aarlab.testbed.students.student import Student
from aarlab.testbed.tasks.train_task import TrainTask
from aarlab.verify.own import Class

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")])
COMMAND = re.compile(r"`(aarlab [^`\n]+)`|^(aarlab .+)$", re.MULTILINE)


def commands() -> list[str]:
    found = []
    for path in DOCUMENTS:
        for inline, block in COMMAND.findall(path.read_text()):
            found.append(re.sub(r"\s+#.*", "", inline or block).strip())
    return sorted(set(found))


def resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that `words` name, and its arguments."""
    command: click.Command = typer.main.get_command(cli)
    while isinstance(command, click.Group) or hasattr(command, "commands"):
        default = getattr(command, "default", None)  # `aarlab report RUN` is `report write RUN`
        if not words or (words[0].startswith("-") and not default):
            break
        if default and words[0] not in command.commands:  # type: ignore[attr-defined]
            words = [default, *words]
        command, words = command.commands[words[0]], words[1:]  # type: ignore[attr-defined]
    return command, words


def test_there_are_commands_to_test() -> None:
    assert len(commands()) >= 10


@pytest.mark.parametrize("text", commands())
def test_a_command_of_the_documents_exists_with_its_options(text: str) -> None:
    words = [word for word in shlex.split(text)[1:] if word not in ("...", "…")]
    command, arguments = resolve(words)
    options = {"-h", "--help"} | {
        name
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    for word in arguments:
        if word.startswith("--"):
            assert word.split("=")[0] in options, f"{text}: no option {word}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_to_files(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name}: {target}"


SHIPPED = directions()


def test_examples_and_presets_name_tasks_methods_and_directions_that_exist() -> None:
    specs = [load_spec(path) for path in sorted(ROOT.glob("examples/*.yaml"))]
    for spec in [*specs, *(make() for make in PRESETS.values())]:
        for aar in spec.aars:
            assert set(aar.methods) <= set(METHODS), aar.name
            known = SHIPPED if aar.researcher == "language" else DIRECTIONS
            assert aar.researcher == "fixed" or aar.direction in {*known, ""}, aar.name


def test_no_tracked_file_names_a_path_of_this_machine() -> None:
    done = subprocess.run(
        ["git", "grep", "-nIE", r"/work/(main|shared)|/root/", "--", ".", ":!tests/house"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 128:
        pytest.skip("not a git checkout")
    assert done.stdout == ""


def test_the_own_method_page_names_arguments_and_classes_as_the_code_does() -> None:
    """`fit(inputs, targets_N, weights_N)`: a keyword taken from the page must work."""
    page = (ROOT / "docs" / "own-method.md").read_text()
    for name in ("fit", "go_on"):
        given = list(inspect.signature(getattr(Student, name)).parameters)[1:]
        found = [text for text in re.findall(rf"`{name}\(([\w, ]+)\)`", page) if "inputs" in text]
        assert [text.split(", ") for text in found] == [given], name
    fields = {field.name for field in dataclasses.fields(TrainTask)}
    assert set(re.findall(r"`task\.(\w+)`", page)) <= fields
    rows = page[page.index("| class |") : page.index("Differences to vanilla")]
    assert set(re.findall(r"^\| ([a-z ]+) \|", rows, re.MULTILINE)) - {"class"} == set(
        get_args(Class)
    )
