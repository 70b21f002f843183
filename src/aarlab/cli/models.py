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


@app.command("cache")
def show_cache(
    do_prune: Annotated[
        bool, typer.Option("--prune", help="drop least recently used features down to the limit")
    ] = False,
    limit_gb: Annotated[
        float | None, typer.Option(min=0, help="instead of AARLAB_CACHE_GB")
    ] = None,
) -> None:
    """Size of the features on disk, model by model; what a process uses is never dropped."""
    from datetime import UTC, datetime

    from aarlab.testbed.models.pruning import prune, usage
    from aarlab.testbed.settings import load_settings

    console, folder = Console(), data_root().path / "features"
    limit = load_settings().cache_bytes if limit_gb is None else int(limit_gb * 1e9)
    if do_prune:
        gone = prune(folder, limit)
        console.print(f"dropped {gone.n_shards} shards, {gone.n_bytes / 1e9:.2f} GB")
    table, total = Table("model", "answers", "shards", "GB", "last used (UTC)"), 0
    for one in usage(folder):
        used = datetime.fromtimestamp(one.used, UTC).strftime("%Y-%m-%d %H:%M")
        cells = (str(one.n_answers), str(one.n_shards), f"{one.n_bytes / 1e9:.2f}", used)
        table.add_row(one.model, *cells)
        total += one.n_bytes
    console.print(table)
    console.print(f"{total / 1e9:.2f} GB of at most {limit / 1e9:.2f} GB in {folder}")
