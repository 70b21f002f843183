"""The option `--json` and printing of results for other programs."""

import json
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="print JSON instead, for programs")]


def print_json(value: Any) -> None:
    """Print as JSON in ASCII, so that it is the same in every locale and drives no terminal."""
    typer.echo(json.dumps(value, indent=1).replace("\x7f", "\\u007f"))
