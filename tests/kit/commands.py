"""The `aarlab` command in this process, and a walk over all its commands."""

import re
from collections.abc import Iterator

import click
import pytest
import typer

from aarlab.cli.main import cli, run_safely


def commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with its words, groups and the root included."""
    waiting: list[tuple[tuple[str, ...], click.Command]] = [((), typer.main.get_command(cli))]
    while waiting:
        words, command = waiting.pop()
        yield words, command
        inner = getattr(command, "commands", {})
        waiting += [((*words, name), one) for name, one in sorted(inner.items(), reverse=True)]


def aarlab(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit code and all that was said, on one line; an exception that gets out is a traceback."""
    capsys.readouterr()
    code = run_safely(lambda: cli(list(words), standalone_mode=False))
    return code, re.sub(r"\s+", " ", "".join(capsys.readouterr()))
