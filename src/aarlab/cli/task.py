"""`aarlab task`: make, import, list and show tasks."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from aarlab.cli.settings import data_root
from aarlab.core.errors import AarlabError, BadInput, BaselineMissing, NotFound
from aarlab.core.wire import TaskInfo

app = typer.Typer(no_args_is_help=True, help="Weak-to-strong tasks.")


@app.command()
def build(
    name: Annotated[str, typer.Argument(help="math, chat or code")],
    seed: Annotated[
        int | None,
        typer.Option(help="for a repeatable task; AARs that know it can make the labels anew"),
    ] = None,
    certify: Annotated[bool, typer.Option(help="also baselines of the certify split")] = False,
    adaptation: Annotated[
        str, typer.Option(help="probe, or top_blocks: its students train blocks (NAME-top-blocks)")
    ] = "probe",
    with_model: Annotated[
        bool, typer.Option(help="methods get the strong model, in sandboxes too (NAME-with-model)")
    ] = False,
    states_only: Annotated[
        bool, typer.Option(help="no log-likelihoods: half the time, no zero-shot (NAME-states)")
    ] = False,
) -> None:
    """Make an embedded task from a private seed; served from the cache if it is intact."""
    from aarlab.testbed.generators.presets import preset
    from aarlab.testbed.making import Workshop, private_seed
    from aarlab.testbed.options import embedded_adapter

    console, root = Console(), data_root()
    made = preset(name, private_seed(root, name) if seed is None else seed)
    shop = Workshop(root, lambda text: console.print(f"  {text}"))
    if adaptation not in ("probe", "top_blocks"):
        raise BadInput(f"adaptation {adaptation!r}: probe or top_blocks")
    adapted = embedded_adapter() if adaptation == "top_blocks" else None
    built = shop.build_preset(made, certify, adapted, with_model, not states_only)
    _say(console, built.info, built.from_cache)


@app.command("import")
def import_folder(
    path: Annotated[Path, typer.Argument(help="train_label, train_unlabel, test .jsonl")],
    name: Annotated[str | None, typer.Option(help="of the task; else the folder's")] = None,
    pair: Annotated[str, typer.Option(help="see `aarlab models list`")] = "embedded",
    allow_small_gap: Annotated[
        bool, typer.Option(help="import even where the ceiling is not clearly above the teacher")
    ] = False,
    near_duplicates: Annotated[
        str, typer.Option(help="of rows in another split: drop, refuse or keep")
    ] = "drop",
) -> None:
    """Check a folder in the study's format and build a task from it."""
    from aarlab.testbed.making import Workshop

    console = Console()
    shop = Workshop(data_root(), lambda text: console.print(f"  {text}"))
    wanted = name or path.resolve().name.lower()
    if near_duplicates not in ("drop", "refuse", "keep"):
        raise BadInput(f"--near-duplicates {near_duplicates!r}: drop, refuse or keep")
    built = shop.import_folder(
        path,
        wanted,
        pair,
        require_gap=not allow_small_gap,
        near=near_duplicates,  # type: ignore[arg-type]
    )
    _say(console, built.info, built.from_cache)


@app.command()
def mappings() -> None:
    """Data sets of the Hugging Face hub that `fetch` knows."""
    from aarlab.testbed.datasets.mapping import shipped_mappings

    table = Table("mapping", "repository", "kind", "licence")
    for name, spec in shipped_mappings().items():
        table.add_row(name, spec.repo, spec.kind, spec.licence)
    Console().print(table)


@app.command()
def fetch(
    mapping: Annotated[str, typer.Argument(help="a name of `aarlab task mappings`, or a .yaml")],
    out: Annotated[Path, typer.Option(help="folder to write, for `aarlab task import`")],
    files: Annotated[Path | None, typer.Option(help="a local file instead of the hub")] = None,
    rows: Annotated[int, typer.Option(min=0, help="at most so many source rows; 0: all")] = 0,
    seed: Annotated[int, typer.Option(help="of dealing and of which wrong answer")] = 0,
) -> None:
    """Turn a data set into a folder in the study's format, by a declarative mapping."""
    from aarlab.testbed.datasets.mapping import file_rows, hub_rows, load_mapping, write_folder

    name, spec = load_mapping(mapping)
    source = hub_rows(spec) if files is None else file_rows(files)
    written = write_folder(name, spec, source, out, (rows, seed))
    Console().print(f"{out}: " + ", ".join(f"{stem} {n}" for stem, n in written.items()))
    Console().print(f"licence {spec.licence}; next: aarlab task import {out}")


@app.command()
def card(name: Annotated[str, typer.Argument()]) -> None:
    """The task's data card (operator): sizes, balance, lengths, shortcuts, near-duplicates."""
    path = data_root().vault_task(name) / "card.md"
    if not path.is_file():
        raise NotFound(f"no card of {name}; build the task: aarlab task build or import")
    text = path.read_text(encoding="utf-8")
    Console().print(text[: text.rindex('{"canary"')], markup=False, highlight=False)


@app.command("list")
def list_tasks() -> None:
    """Tasks that are built here, and embedded ones that could be."""
    from aarlab.testbed.generators.presets import PRESETS
    from aarlab.testbed.task import load_info

    root = data_root()
    built = sorted(p.parent.name for p in root.public.glob("*/task.json"))
    table = Table("task", "kind", "pair", "train", "search", "state")
    for name in built:
        try:
            info = load_info(root.public_task(name))
        except AarlabError as error:
            table.add_row(name, "", "", "", "", f"damaged: {error}")
            continue
        row = (info.kind, info.pair, str(info.n_train), str(info.n_search))
        table.add_row(name, *row, "built")
    for name in PRESETS:
        if name not in built:
            table.add_row(name, "", "embedded", "", "", f"aarlab task build {name}")
    Console().print(table)


@app.command()
def show(
    name: Annotated[str, typer.Argument()],
    rows: Annotated[int, typer.Option(min=0, help="examples to show")] = 3,
) -> None:
    """A task's public facts, baselines and a few inputs (never a label)."""
    from aarlab.cli.operator import open_scorer
    from aarlab.testbed.task import open_public

    root, console = data_root(), Console()
    task = open_public(root.public_task(name))
    console.print_json(task.info.model_dump_json())
    table = Table("split", "rows", "weak", "ceiling", title="baselines (operator)")
    scorer = open_scorer(root)
    for split in ("search", "selection", "certify"):
        try:
            base = scorer.baselines(name, split)
        except BaselineMissing:
            table.add_row(split, "-", "-", "-")
            continue
        table.add_row(split, str(base.n_rows), f"{base.weak:.3f}", f"{base.ceiling:.3f}")
    console.print(table)
    for example in task.train[:rows]:
        console.rule(example.id)
        console.print(example.prompt, *example.answers, sep="\n---\n", markup=False)


def _say(console: Console, info: TaskInfo, from_cache: bool) -> None:
    how = "served from the cache, unchanged" if from_cache else "built"
    console.print(
        f"{info.name}: {how}; {info.n_train} train, {info.n_search} search rows; pair {info.pair}"
    )
