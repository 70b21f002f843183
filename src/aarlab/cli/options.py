"""Options of commands: values that typer does not check, `--json`, and confirmation.

Invalid values are refused, never dropped. `--json` prints results for other programs. Before
something is deleted or overwritten there is a confirmation, or a refusal that says what to do.
"""

import json
import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from aarlab.core.errors import BadInput, Conflict


def comma_list(text: str, option: str, at_least: int = 0) -> list[str]:
    """Split `a,b` into stripped items; raises BadInput for too few, empty or duplicate items."""
    items = [item.strip() for item in text.split(",")] if text.strip() else []
    if "" in items:
        raise BadInput(f"{option} {text!r}: an item is empty; separate items by one comma")
    twice = next((item for item in items if items.count(item) > 1), None)
    if twice is not None:
        raise BadInput(f"{option} {text!r}: {twice!r} is given twice")
    if len(items) < at_least:
        raise BadInput(f"{option} {text!r}: name at least {at_least}")
    return items


def number_list(text: str, option: str) -> list[int]:
    """Split `12,18` into non-negative integers; raises BadInput naming the invalid item."""
    items = comma_list(text, option)
    for item in items:
        if not (item.isascii() and item.isdigit() and len(item) < 10):
            raise BadInput(f"{option} {text!r}: {item!r} is not a whole number from 0")
    return [int(item) for item in items]


def finite(value: float | None) -> float | None:
    """Return the value; refuse `nan` and `inf`, which a lower bound accepts.

    Serves as the callback of an option.
    """
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter("expected a finite number")
    return value


AsJson = Annotated[bool, typer.Option("--json", help="print JSON instead, for programs")]


def print_json(value: Any) -> None:
    """Print as JSON in ASCII, so that it is the same in every locale and drives no terminal."""
    typer.echo(json.dumps(value, indent=1).replace("\x7f", "\\u007f"))


def confirmed(question: str, yes: bool) -> None:
    """Ask for confirmation unless `yes`; aborts if the person declines.

    Raises BadInput if stdin is not a terminal.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise BadInput(f"{question} This is not a terminal, so nobody can be asked: use --yes")
    typer.confirm(question, abort=True)


def check_empty(folder: Path, option: str) -> None:
    """Raise Conflict unless the folder is new or empty."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        raise Conflict(f"{folder} already exists and is not empty: give another {option}")


def check_file(path: Path, replace: bool, option: str) -> None:
    """Raise Conflict if the path is a folder, or an existing file that may not be replaced."""
    if path.is_dir():
        raise Conflict(f"{path} is a folder: {option} takes a file")
    if path.exists() and not replace:
        raise Conflict(f"{path} already exists: give another {option}, or --replace")
