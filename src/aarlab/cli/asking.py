"""Confirmation before something is deleted or overwritten, or a refusal that says what to do."""

import sys
from pathlib import Path

import typer

from aarlab.core.errors import BadInput, Conflict


def confirmed(question: str, yes: bool) -> None:
    """Ask for confirmation unless `yes`; aborts if the person declines.

    Raises BadInput if stdin is not a terminal.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise BadInput(f"{question} Nobody can be asked here: give --yes")
    typer.confirm(question, abort=True)


def check_empty(folder: Path, option: str) -> None:
    """Raise Conflict unless the folder is new or empty."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        raise Conflict(f"{folder} is there already and is not empty: give another {option}")


def check_file(path: Path, replace: bool, option: str) -> None:
    """Raise Conflict if the path is a folder, or an existing file that may not be replaced."""
    if path.is_dir():
        raise Conflict(f"{path} is a folder: {option} takes a file")
    if path.exists() and not replace:
        raise Conflict(f"{path} is there already: give another {option}, or --replace")
