"""`aarlab models`: what the catalogue holds, your own models and pairs, and fetching weights."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from aarlab.cli.options import AsJson, finite, number_list, print_json
from aarlab.cli.settings import data_root
from aarlab.cli.steps import Steps
from aarlab.cli.terminal import Console
from aarlab.core.extras import require

app = typer.Typer(no_args_is_help=True, help="Models and pairs.")


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List models and pairs, built-in and your own, and which are here."""
    from aarlab.testbed.models.catalogue import catalogue_of

    root = data_root()
    known = catalogue_of(root)
    fetched = {name for name in known.models if (root.models / name / "model.json").exists()}
    if as_json:
        models = [
            {
                "model": entry.name,
                "title": entry.title,
                "licence": entry.license,
                "blocks": entry.n_blocks,
                "here": entry.name in fetched,
            }
            for entry in known.models.values()
        ]
        pairs_here = [{"pair": pair.name, "title": pair.title} for pair in known.pairs.values()]
        print_json({"models": models, "pairs": pairs_here})
        return
    table = Table("model", "title", "licence", "blocks", "here")
    for entry in known.models.values():
        here = "yes" if entry.name in fetched else "-"
        table.add_row(entry.name, entry.title, entry.license, str(entry.n_blocks or "?"), here)
    pairs = Table("pair", "weak teacher -> strong student")
    for pair in known.pairs.values():
        pairs.add_row(pair.name, pair.title)
    Console().print(table, pairs)


@app.command("add")
def add_model(
    name: Annotated[str, typer.Argument()],
    folder: Annotated[str, typer.Option(help="in Hugging Face format")] = "",
    gguf: Annotated[str, typer.Option(help="a GGUF file")] = "",
    hf: Annotated[str, typer.Option(help="OWNER/NAME on the hub")] = "",
    revision: Annotated[str, typer.Option(help="a commit of the hub repository")] = "main",
    sha256: Annotated[str, typer.Option(help="of the GGUF file")] = "",
    template: Annotated[str, typer.Option(help="plain, chatml or chat (tokenizer)")] = "plain",
    context: Annotated[int, typer.Option(min=16, help="tokens")] = 2048,
) -> None:
    """Name a model of your own; `pull` then fetches and converts it."""
    from aarlab.testbed.models.catalogue import add_own

    given: dict[str, Any] = {"template": template, "context": context}
    given |= {key: str(Path(p).absolute()) for key, p in (("folder", folder), ("gguf", gguf)) if p}
    given |= {"hf": hf, "revision": revision} if hf else {}
    add_own(data_root(), "models", name, given | ({"sha256": sha256} if sha256 else {}))
    Console().print(f"{name} added; next: aarlab models pull {name}")


@app.command("pair")
def add_pair(
    name: Annotated[str, typer.Argument()],
    weak: Annotated[str, typer.Option(help="MODEL@BLOCKS, e.g. smollm2-135m@9")],
    strong: Annotated[str, typer.Option(help="MODEL@BLOCKS")],
    more_layers: Annotated[str, typer.Option(help="of the strong model, e.g. 12,18")] = "",
) -> None:
    """Name a pair of models, or of cuts of one model; tasks are built on pairs."""
    from aarlab.testbed.models.catalogue import add_own

    layers = number_list(more_layers, "--more-layers")
    add_own(data_root(), "pairs", name, {"weak": weak, "strong": strong, "more_layers": layers})
    Console().print(f"{name} added; next: aarlab task import FOLDER --pair {name}")


@app.command("pull")
def pull_model(
    name: Annotated[str, typer.Argument(help="a model of the catalogue")],
    force: Annotated[bool, typer.Option(help="fetch again, e.g. a damaged one")] = False,
) -> None:
    """Download a model's weights once, verify and convert them."""
    require("testbed")
    from aarlab.testbed.models.pull import pull

    console = Console()
    with Steps(console) as steps:
        folder = pull(name, data_root(), steps.tell, force=force)
    console.print(f"{name}: {folder}", soft_wrap=True)


@app.command("remove")
def remove_model(
    name: Annotated[str, typer.Argument(help="a model, or a pair of your own")],
    pair: Annotated[bool, typer.Option("--pair", help="the pair of that name, not the model")] = (
        False
    ),
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    force: Annotated[
        bool, typer.Option(help="weights that tasks need, where the same can be pulled again")
    ] = False,
) -> None:
    """Delete a model's weights, and its entry if it is your own; or a pair of your own.

    Refused while a pair or a task needs it.
    """
    from aarlab.cli.options import confirmed
    from aarlab.core.errors import Conflict
    from aarlab.testbed.models.catalogue import catalogue_of
    from aarlab.testbed.tasks.removing import is_pinned, needed_by, remove_own

    root, known = data_root(), catalogue_of(data_root())
    part: Literal["models", "pairs"] = (
        "pairs" if pair or (name in known.pairs and name not in known.models) else "models"
    )
    entry = known.models.get(name) if part == "models" else None
    needs = needed_by(root, part, name)
    said = "; ".join(f"{kind} {', '.join(some)}" for kind, some in needs.items() if some)
    again = entry is not None and is_pinned(entry.source)
    if said and not (force and again):
        how = (
            "--force removes its weights anyway; `aarlab models pull` downloads them again"
            if again
            else "remove those first"
        )
        raise Conflict(f"{name} is needed by {said}: {how}")
    what = "the pair" if part == "pairs" else "weights" if said else "weights and own entry"
    confirmed(f"Delete {what} of {name} in {root.path}?", yes)
    remove_own(root, part, name, weights_only=bool(said))
    Console().print(f"removed {name}", highlight=False)


@app.command("cache")
def show_cache(
    do_prune: Annotated[
        bool, typer.Option("--prune", help="drop least recently used features down to the limit")
    ] = False,
    limit_gb: Annotated[
        float | None,
        typer.Option(min=0, callback=finite, help="instead of AARLAB_CACHE_GB"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the size of the features on disk by model; what a process uses is never dropped."""
    from datetime import UTC, datetime

    from aarlab.testbed.models.shards import prune, usage
    from aarlab.testbed.settings import load_settings

    console, folder = Console(), data_root().path / "features"
    limit = load_settings().cache_bytes if limit_gb is None else int(limit_gb * 1e9)
    gone = prune(folder, limit) if do_prune else None
    if as_json:
        print_json(
            {
                "folder": str(folder),
                "limit_bytes": limit,
                "dropped": gone and gone._asdict(),
                "models": [one._asdict() for one in usage(folder)],
            }
        )
        return
    if gone is not None:
        console.print(f"dropped {gone.n_shards} shards, {gone.n_bytes / 1e9:.2f} GB")
    table, total = Table("model", "answers", "shards", "GB", "last used (UTC)"), 0
    for one in usage(folder):
        used = datetime.fromtimestamp(one.used, UTC).strftime("%Y-%m-%d %H:%M")
        cells = (str(one.n_answers), str(one.n_shards), f"{one.n_bytes / 1e9:.2f}", used)
        table.add_row(one.model, *cells)
        total += one.n_bytes
    console.print(table)
    console.print(f"{total / 1e9:.2f} GB of at most {limit / 1e9:.2f} GB in {folder}")
