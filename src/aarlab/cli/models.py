"""`aarlab models`: what the catalogue holds, and fetching weights."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from aarlab.cli.settings import data_root
from aarlab.testbed.models.catalogue import CATALOGUE, PAIRS

app = typer.Typer(no_args_is_help=True, help="Models and pairs.")


@app.command("list")
def list_models() -> None:
    """Models and pairs of the catalogue, and which are here."""
    root = data_root()
    table = Table("model", "title", "licence", "blocks", "here")
    for entry in CATALOGUE.values():
        here = "yes" if (root.models / entry.name / "model.json").exists() else "-"
        table.add_row(entry.name, entry.title, entry.license, str(entry.n_blocks), here)
    pairs = Table("pair", "weak teacher -> strong student")
    for pair in PAIRS.values():
        pairs.add_row(pair.name, pair.title)
    Console().print(table, pairs)


@app.command("pull")
def pull_model(
    name: Annotated[str, typer.Argument(help="a model of the catalogue")],
    force: Annotated[bool, typer.Option(help="fetch again, e.g. a damaged one")] = False,
) -> None:
    """Fetch weights once, check them, convert them, keep them."""
    from aarlab.testbed.models.pull import pull

    console = Console()
    folder = pull(name, data_root(), lambda text: console.print(f"  {text}"), force=force)
    console.print(f"{name}: {folder}")
