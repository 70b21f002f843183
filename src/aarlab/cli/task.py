"""`aarlab task`: make, import, list and show tasks."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from aarlab.cli.ending import when_interrupted
from aarlab.cli.printing import AsJson, print_json
from aarlab.cli.settings import data_root
from aarlab.cli.steps import Steps
from aarlab.cli.terminal import Console
from aarlab.core.errors import AarlabError, BadInput, BaselineMissing, Conflict, Damaged, NotFound
from aarlab.core.extras import require
from aarlab.core.types import Split

if TYPE_CHECKING:
    from aarlab.core.layout import DataRoot, TaskVersion
    from aarlab.core.wire import TaskInfo
    from aarlab.testbed.build import Built

KEPT = "Features computed so far are kept; run the same command to continue."
app = typer.Typer(no_args_is_help=True, help="Weak-to-strong tasks.")
ENDED = ("finished", "budget", "stopped", "partly")  # of core.endings: nothing is left to run
RANKED: tuple[Split, ...] = ("search", "selection")


@app.command()
def build(
    name: Annotated[str, typer.Argument(help="math, chat or code")],
    seed: Annotated[
        int | None,
        typer.Option(help="for a repeatable task; AARs that know it can make the labels anew"),
    ] = None,
    certify: Annotated[
        bool, typer.Option(help="baselines of the certify split, for a campaign's last score")
    ] = True,
    adaptation: Annotated[
        Literal["probe", "top_blocks"],
        typer.Option(help="top_blocks: its students train blocks (NAME-top-blocks)"),
    ] = "probe",
    with_model: Annotated[
        bool, typer.Option(help="methods get the strong model, in sandboxes too (NAME-with-model)")
    ] = False,
    states_only: Annotated[
        bool, typer.Option(help="no log-likelihoods: half the time, no zero-shot (NAME-states)")
    ] = False,
) -> None:
    """Make an embedded task from a private seed; served from the cache if it is intact."""
    require("testbed")
    from aarlab.testbed.generators.presets import preset
    from aarlab.testbed.making import Workshop, private_seed
    from aarlab.testbed.options import embedded_adapter

    console, root = Console(), data_root()
    made = preset(name, private_seed(root, name) if seed is None else seed)
    shop = Workshop(root, lambda text: console.print(f"  {text}"))
    adapted = embedded_adapter() if adaptation == "top_blocks" else None
    with when_interrupted(KEPT):
        built = shop.build_preset(made, certify, adapted, with_model, not states_only)
    _say(console, built)


@app.command("import")
def import_folder(
    path: Annotated[
        Path, typer.Argument(help="folder of train_label, train_unlabel, test (.jsonl, .csv, ...)")
    ],
    name: Annotated[str | None, typer.Option(help="of the task; else the folder's")] = None,
    pair: Annotated[str, typer.Option(help="see `aarlab models list`")] = "embedded",
    near_duplicates: Annotated[
        Literal["drop", "refuse", "keep"], typer.Option(help="of rows in another split")
    ] = "drop",
    repeated_questions: Annotated[
        Literal["refuse", "drop"],
        typer.Option(help="questions in two files: refuse, or drop from the earlier file"),
    ] = "refuse",
    train_hidden: Annotated[
        bool, typer.Option(help="rows that only verified runs train on, of 600 train rows or more")
    ] = True,
) -> None:
    """Check a folder of rows and build a task from it."""
    require("testbed")
    from aarlab.testbed.folder import FolderOptions
    from aarlab.testbed.making import Workshop

    console = Console()
    wanted = name or path.resolve().name.lower()
    with when_interrupted(KEPT), Steps(console) as steps:
        shop = Workshop(data_root(), steps.tell)
        options = FolderOptions(hidden=train_hidden, repeated=repeated_questions, tell=steps.tell)
        built = shop.import_folder(path, wanted, pair, options=options, near=near_duplicates)
    _say(console, built)


@app.command()
def mappings(as_json: AsJson = False) -> None:
    """Data sets of the Hugging Face hub that `fetch` knows."""
    from aarlab.testbed.datasets.mapping import shipped_mappings

    if as_json:
        print_json(
            [{"mapping": n, **s.model_dump(mode="json")} for n, s in shipped_mappings().items()]
        )
        return
    table = Table("mapping", "repository", "kind", "licence")
    for name, spec in shipped_mappings().items():
        table.add_row(name, spec.repo, spec.kind, spec.licence)
    Console().print(table)


@app.command()
def fetch(
    mapping: Annotated[str, typer.Argument(help="a name of `aarlab task mappings`, or a .yaml")],
    out: Annotated[Path, typer.Option(help="folder to write, for `aarlab task import`")],
    files: Annotated[
        Path | None, typer.Option(help="a local file (.jsonl, .json, .csv, .parquet, .gz)")
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="at most so many source rows; 0: all")] = 0,
    seed: Annotated[int, typer.Option(help="of dealing and of which wrong answer")] = 0,
    skip_bad_rows: Annotated[
        bool, typer.Option(help="leave out rows that do not fit, and count them")
    ] = False,
) -> None:
    """Turn a data set into a new folder in the study's format, by a declarative mapping."""
    from aarlab.testbed.datasets.mapping import (
        FetchOptions,
        file_source,
        hub_source,
        load_mapping,
        write_folder,
    )

    console = Console()
    name, spec = load_mapping(mapping)
    with Steps(console) as steps:
        steps.tell(f"reading {files or spec.repo}")
        source = hub_source(spec) if files is None else file_source(files)
        source = source._replace(rows=steps.counted(source.rows, "source rows"))
        made = write_folder(name, spec, source, out, FetchOptions(rows, seed, skip_bad_rows))
    for note in made.notes:
        console.print(f"  {note}")
    for reason, n_rows in made.left_out.items():
        console.print(f"  left out {n_rows:,} source rows: {reason}")
    counts = ", ".join(f"{stem} {n:,}" for stem, n in made.rows.items())
    console.print(f"wrote {out}: {counts} rows")
    console.print(f"licence {spec.licence}; next: aarlab task import {out}", soft_wrap=True)


@app.command()
def card(name: Annotated[str, typer.Argument()]) -> None:
    """The task's data card (operator): sizes, balance, lengths, shortcuts, near-duplicates."""
    path = data_root().vault_task(name) / "card.md"
    if not path.is_file():
        raise NotFound(f"no card of {name}; build the task: aarlab task build or import")
    text = path.read_text(encoding="utf-8")
    Console().print(text[: text.rindex('{"canary"')], highlight=False)


@app.command("list")
def list_tasks(as_json: AsJson = False) -> None:
    """Tasks that are built here, version by version, and embedded ones that could be."""
    from aarlab.core.uses import uses
    from aarlab.testbed.generators.presets import PRESETS

    root = data_root()
    used = [reference for use in uses(root) for reference in use.tasks]
    built = root.task_names()
    rows = [row for name in built for row in _rows(root, name, used)]
    for name in PRESETS:
        if name not in built:
            rows.append({"task": name, "pair": "embedded", "state": f"aarlab task build {name}"})
    if as_json:
        print_json(rows)
        return
    columns = ("task", "kind", "pair", "train", "hidden train", "search", "state", "campaigns")
    table = Table()
    for column in columns:
        table.add_column(column, no_wrap=column == "task")
    for row in rows:
        shown = {**row, "hidden train": _hidden_cell(row)}
        table.add_row(*(str(shown.get(column, "")) for column in columns))
    Console().print(table)


def _hidden_cell(row: dict[str, Any]) -> str:
    if "train_hidden" not in row:
        return ""
    return {0: "public", None: "yes"}.get(row["train_hidden"], str(row["train_hidden"]))


def _rows(root: "DataRoot", name: str, used: list[str]) -> list[dict[str, Any]]:
    from aarlab.testbed.task import load_info

    rows = list[dict[str, Any]]()
    for one in root.versions(name):
        known = {"task": one.reference, "campaigns": used.count(one.reference)}
        try:
            info = load_info(root.public / one.folder)
            root.check_task(one.reference)
        except AarlabError as error:
            rows.append({**known, "state": f"damaged: {error}"})
            continue
        state = "built, default" if one.is_default else "built"
        rows.append({**known, "kind": info.kind, "pair": info.pair, "train": info.n_train,
                     "train_hidden": _hidden_train_rows(root, one), "search": info.n_search,
                     "state": state})  # fmt: skip
    if not rows:
        rows.append({"task": name, "state": f"damaged: no task.json in {root.public / name}"})
    return rows


@app.command()
def show(
    name: Annotated[str, typer.Argument()],
    rows: Annotated[int, typer.Option(min=0, help="examples to show")] = 3,
    as_json: AsJson = False,
) -> None:
    """A task's public facts, baselines and a few inputs (never a label)."""
    from aarlab.cli.operator import open_scorer
    from aarlab.testbed.task import open_public

    root, console = data_root().pin(name), Console()
    task = open_public(root.public_task(name))
    scorer, baselines = open_scorer(root), {}
    hidden = _hidden_train_rows(root, root.find_task(name))
    for split in ("search", "selection", "certify"):
        with suppress(BaselineMissing):
            baselines[split] = scorer.baselines(task.info.name, split)
    if as_json:
        shown = {split: base.model_dump() for split, base in baselines.items()}
        facts = {**task.info.model_dump(mode="json"), "train_hidden": hidden}
        print_json({**facts, "baselines": shown})
        return
    console.print_json(task.info.model_dump_json())
    console.print(f"verified runs: {_of_train_rows(hidden)}")
    table = Table("split", "rows", "weak", "ceiling", title="baselines (operator)")
    for split in ("search", "selection", "certify"):
        if split not in baselines:
            table.add_row(split, "-", "-", "-")
            continue
        base = baselines[split]
        table.add_row(split, str(base.n_rows), f"{base.weak:.3f}", f"{base.ceiling:.3f}")
    console.print(table)
    for example in task.train[:rows]:
        console.rule(example.id)
        console.print(example.prompt, *example.answers, sep="\n---\n")


@app.command()
def use(task: Annotated[str, typer.Argument(help="NAME@VERSION, of `aarlab task list`")]) -> None:
    """Let the bare name mean this version from now on; campaigns keep the one they are bound to."""
    root = data_root()
    found = root.find_task(task)
    root.set_default(found.name, found.version)
    Console().print(f"{found.name} is {found.reference} from now on", highlight=False)


@app.command()
def remove(
    task: Annotated[str, typer.Argument(help="NAME, or NAME@VERSION where there are several")],
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    force: Annotated[
        bool, typer.Option(help="also where finished campaigns use it: they can be read still")
    ] = False,
) -> None:
    """Delete one version of a task, its hidden side too. Refused while a campaign needs it."""
    from aarlab.cli.asking import confirmed
    from aarlab.core.layout import RunDir
    from aarlab.core.uses import users_of
    from aarlab.server.dashboard.run_files import state_of
    from aarlab.testbed.removing import remove_task

    root, console = data_root(), Console(highlight=False, soft_wrap=True)
    found = root.find_task(task)
    if "@" not in task and len(there := root.versions(found.name)) > 1:
        names = ", ".join(one.reference for one in there)
        raise BadInput(f"{task} has {len(there)} versions: say which one: {names}")
    users = [RunDir(path) for path in users_of(root, found.reference)]
    going = [r for r in users if state_of(r) not in ENDED or not r.export.is_file()]
    if going:
        raise Conflict(
            f"{found.reference} is needed by campaigns that have not ended: {_paths(going)}. Let "
            "them end, or delete their folders first"
        )
    if users and not force:
        raise Conflict(
            f"{found.reference} is needed by {_paths(users)}, to verify or certify again. With "
            "--force it is removed all the same: these campaigns can be read still"
        )
    confirmed(f"Delete {found.reference} in {root.path}, labels and all?", yes)
    now = remove_task(root, found.reference)
    console.print(f"removed {found.reference}")
    if found.is_default and now is not None:
        console.print(f"{found.name} is {found.name}@{now} from now on")


def _paths(runs: list[Any]) -> str:
    return ", ".join(str(run.path) for run in runs)


def _say(console: Console, built: "Built") -> None:
    from aarlab.core.uses import users_of

    info, version = built.info, built.version
    how = "served from the cache, unchanged" if built.from_cache else "built"
    root = data_root()
    hidden = _of_train_rows(_hidden_train_rows(root, root.find_task(f"{info.name}@{version}")))
    console.print(
        f"{info.name}: {how}; {info.n_train} train, {info.n_search} search rows; {hidden}; "
        f"pair {info.pair}; version {info.name}@{version}"
    )
    note_on_gap(console, info)
    if built.before is None:
        return
    old = f"{info.name}@{built.before}"
    console.print(f"{info.name} meant {old} until now, and means {info.name}@{version} from now on")
    users = users_of(root, old)
    kept = f"; campaigns that stay on it: {', '.join(map(str, users))}" if users else ""
    console.print(f"{old} is kept{kept}. Back: aarlab task use {old}", soft_wrap=True)


def _hidden_train_rows(root: "DataRoot", version: "TaskVersion") -> int | None:
    """Return the number of a task's hidden train rows; 0: its train rows are public.

    None where there are some and this user may not read the vault.
    """
    from aarlab.testbed.task import has_hidden_train, load_info, load_inputs

    if not has_hidden_train(load_info(root.public / version.folder)):
        return 0
    try:
        rows = load_inputs(root.vault / version.folder / "inputs" / "train_hidden.jsonl")
    except (Damaged, BadInput):
        return None
    return len(rows)


def _of_train_rows(n_hidden: int | None) -> str:
    """Return which train rows verified runs of a task train on."""
    if n_hidden == 0:
        return "train rows public"
    return "hidden train rows" if n_hidden is None else f"{n_hidden:,} hidden train rows"


def note_on_gap(console: Console, info: "TaskInfo") -> None:
    """Print, with figures, that a task has no PGR; prints nothing if the gap is clear."""
    from aarlab.cli.operator import open_scorer
    from aarlab.core.pgr import NO_PGR

    scorer = open_scorer(data_root())
    found = {split: scorer.gap(info.name, split) for split in RANKED}
    unclear = {split: one for split, one in found.items() if not one.clear}
    for split, one in unclear.items():
        console.print(f"note: {info.name}, {split} split, {one.said()}", soft_wrap=True)
    if unclear:
        console.print(f"{NO_PGR}.", soft_wrap=True)
