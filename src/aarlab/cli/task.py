"""`aarlab task`: make, import, list and show tasks."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from aarlab.cli.ending import when_interrupted
from aarlab.cli.options import AsJson, print_json
from aarlab.cli.settings import data_root
from aarlab.cli.steps import Steps
from aarlab.cli.terminal import Console
from aarlab.core.errors import AarlabError, BadInput, BaselineMissing, Conflict, Damaged, NotFound
from aarlab.core.extras import require
from aarlab.core.types import Split

if TYPE_CHECKING:
    from aarlab.core.layout import DataRoot, TaskVersion
    from aarlab.core.wire import TaskInfo
    from aarlab.testbed.tasks.build import Built
    from aarlab.testbed.tasks.datasets.mapping import Written
    from aarlab.testbed.tasks.datasets.named import NamedSet

KEPT = "Features computed so far are kept; run the same command to continue."
app = typer.Typer(no_args_is_help=True, help="Weak-to-strong tasks.")
ENDED = ("finished", "budget", "stopped", "partly")  # of core.endings: nothing is left to run
RANKED: tuple[Split, ...] = ("search", "selection")
SET_HELP = "a setting of task.yaml, such as teacher.noise=1.5; may be repeated"


@app.command()
def build(
    task: Annotated[
        str, typer.Argument(help="an embedded task (`aarlab task list`), or a folder of rows")
    ],
    name: Annotated[str | None, typer.Option(help="of a folder's task; else the folder's")] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="for a repeatable task; AARs that know the seed can reproduce the labels"
        ),
    ] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help=SET_HELP)] = None,
    certify: Annotated[
        bool, typer.Option(help="baselines of the certify split, for a campaign's last score")
    ] = True,
    adaptation: Annotated[
        str,
        typer.Option(
            help="top_blocks, lora, full or an installed one: its students train the model "
            "(NAME-top-blocks)"
        ),
    ] = "probe",
    with_model: Annotated[
        bool, typer.Option(help="methods get the strong model, in sandboxes too (NAME-with-model)")
    ] = False,
    states_only: Annotated[
        bool, typer.Option(help="no log-likelihoods: half the time, no zero-shot (NAME-states)")
    ] = False,
) -> None:
    """Build a task: an embedded one from a private seed, or a folder by its `task.yaml`.

    Served from the cache if it is intact.
    """
    require("testbed")
    from aarlab.core.layout import embedded_names, ending_of
    from aarlab.testbed.students.adapters.adaptation import ADAPTATIONS, PROBE
    from aarlab.testbed.tasks.embedded import embedded_folder
    from aarlab.testbed.tasks.generators.registry import preset
    from aarlab.testbed.tasks.making import Workshop, private_seed
    from aarlab.testbed.tasks.settings_file import read_task_settings

    console, root = Console(), data_root()
    given = [*(changes or [])]
    adapting = None if adaptation == PROBE else ADAPTATIONS.get(adaptation)
    with when_interrupted(KEPT), Steps(console) as steps:
        shop = Workshop(root, steps.tell, steps.advance)
        embedded = embedded_names()
        if task not in embedded and Path(task).is_dir():
            folder, made_name = Path(task), name or Path(task).resolve().name.lower()
        else:
            if task not in embedded:
                raise NotFound(
                    f"no folder and no embedded task {task!r}; there are {', '.join(embedded)}"
                )
            shipped = embedded_folder(task)
            if name is not None:
                raise BadInput(f"--name is for a folder; {task} has its own name")
            if shipped is None:
                if given:
                    raise BadInput(f"{task} is generated and has no task.yaml for --set")
                made = preset(task, private_seed(root, task, seed))
                adapted = None if adapting is None else adapting.defaults()
                built = shop.build_preset(made, certify, adapted, with_model, not states_only)
                _say(console, built)
                return
            folder, made_name = shipped, task
        variants = {
            ending_of(adaptation): (adapting is not None, f"student.adaptation={adaptation}"),
            "-with-model": (with_model, "with_model=true"),
            "-states": (states_only, "log_likelihoods=none"),
        }
        for suffix, (chosen, change) in variants.items():
            if chosen:
                given.append(change)
                made_name = f"{made_name}{suffix}"
        given += [] if certify else ["certify=false"]
        given += [] if seed is None else [f"splits.seed={seed}"]
        built = shop.build_folder(folder, made_name, read_task_settings(folder, given))
    _say(console, built)


@app.command("import")
def import_folder(
    path: Annotated[
        Path, typer.Argument(help="folder of train_label, train_unlabel, test (.jsonl, .csv, ...)")
    ],
    name: Annotated[str | None, typer.Option(help="of the task; else the folder's")] = None,
    pair: Annotated[str | None, typer.Option(help="see `aarlab models list`")] = None,
    near_duplicates: Annotated[
        Literal["drop", "refuse", "keep"] | None,
        typer.Option(help="of rows in another split", show_default="drop"),
    ] = None,
    repeated_questions: Annotated[
        Literal["refuse", "drop"] | None,
        typer.Option(
            help="questions in two files: refuse, or drop from the earlier file",
            show_default="refuse",
        ),
    ] = None,
    train_hidden: Annotated[
        bool | None,
        typer.Option(
            "--train-hidden/--no-train-hidden",
            help="rows that only verified runs train on, of 600 train rows or more",
            show_default="train-hidden",
        ),
    ] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help=SET_HELP)] = None,
) -> None:
    """Check a folder of rows and build a task from it, by its `task.yaml` if it has one."""
    require("testbed")
    from aarlab.testbed.tasks.making import Workshop
    from aarlab.testbed.tasks.settings_file import read_task_settings

    console = Console()
    wanted = name or path.resolve().name.lower()
    options = {
        "pair": pair,
        "near_duplicates": near_duplicates,
        "repeated_questions": repeated_questions,
        "train_hidden": None if train_hidden is None else str(train_hidden).lower(),
    }
    given = [f"{key}={value}" for key, value in options.items() if value is not None]
    settings = read_task_settings(path, [*given, *(changes or [])])
    with when_interrupted(KEPT), Steps(console) as steps:
        shop = Workshop(data_root(), steps.tell, steps.advance)
        built = shop.build_folder(path, wanted, settings)
    _say(console, built)


@app.command()
def mappings(as_json: AsJson = False) -> None:
    """List public data sets that `fetch` knows.

    These are whole ones by name, and mappings of hub data sets.
    """
    from aarlab.testbed.tasks.datasets.mapping import shipped_mappings
    from aarlab.testbed.tasks.datasets.named import shipped_sets

    named, mapped = shipped_sets(), shipped_mappings()
    if as_json:
        print_json(
            {
                "sets": [
                    {"set": n, "kind": s.kind, **s.model_dump(mode="json")}
                    for n, s in named.items()
                ],
                "mappings": [
                    {"mapping": n, "kind": s.kind, **s.model_dump(mode="json")}
                    for n, s in mapped.items()
                ],
            }
        )
        return
    sets = Table(title="sets by name")
    for column in ("set", "repository", "kind", "licence", "asks"):
        sets.add_column(column, no_wrap=column != "asks")
    for name, spec in named.items():
        sets.add_row(name, spec.source.repo, spec.kind, spec.source.licence, spec.title)
    table = Table("mapping", "repository", "kind", "licence", title="mappings of hub data sets")
    for name, one in mapped.items():
        table.add_row(name, one.repo, one.kind, one.licence)
    Console().print(sets, table)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="a name of `aarlab task mappings`, or a .yaml")],
    out: Annotated[Path, typer.Option(help="new folder for the rows")],
    from_: Annotated[
        Path | None,
        typer.Option("--from", help="set: a copy of its repository, or a finished folder"),
    ] = None,
    files: Annotated[
        Path | None,
        typer.Option(help="mapping: a local file (.jsonl, .json, .csv, .parquet, .gz)"),
    ] = None,
    rows: Annotated[
        int, typer.Option(min=0, help="mapping: maximum number of source rows; 0: all")
    ] = 0,
    seed: Annotated[int, typer.Option(help="seed for splits, pairing and the order of rows")] = 0,
    skip_bad_rows: Annotated[
        bool, typer.Option(help="mapping: leave out rows that do not fit, and count them")
    ] = False,
) -> None:
    """Turn a public data set, a whole one or by a mapping, into a folder in the study's format."""
    from aarlab.testbed.tasks.datasets.named import shipped_sets

    console = Console()
    if spec := shipped_sets().get(name):
        given = {"--files": files, "--rows": rows, "--skip-bad-rows": skip_bad_rows}
        if wrong := [option for option, value in given.items() if value]:
            raise BadInput(
                f"{wrong[0]} is for mappings; {name} is a whole set: give a local copy of it by "
                "--from FOLDER, or nothing to download it"
            )
        _fetch_set(console, name, spec, from_, out, seed)
        return
    from aarlab.testbed.tasks.datasets.mapping import (
        FetchOptions,
        file_source,
        hub_source,
        load_mapping,
        write_folder,
    )

    name, mapping = load_mapping(name)
    if from_ is not None:
        raise BadInput(
            f"--from is for sets by name; {name} is a mapping: give a local file by --files FILE"
        )
    with Steps(console) as steps:
        steps.tell(f"reading {files or mapping.repo}")
        source = hub_source(mapping) if files is None else file_source(files)
        source = source._replace(rows=steps.counted(source.rows, "source rows"))
        made = write_folder(name, mapping, source, out, FetchOptions(rows, seed, skip_bad_rows))
    _say_written(console, out, made)
    console.print(f"licence {mapping.licence}; next: aarlab task import {out}", soft_wrap=True)


def _fetch_set(
    console: Console, name: str, spec: "NamedSet", from_: Path | None, out: Path, seed: int
) -> None:
    from aarlab.testbed.settings import load_settings
    from aarlab.testbed.tasks.datasets.mapping import refuse_full
    from aarlab.testbed.tasks.datasets.named_folder import copy_finished, is_finished, write_named
    from aarlab.testbed.tasks.datasets.source_files import downloaded, local_files, wanted_files

    refuse_full(out)
    source, settings = spec.source, load_settings()
    for line in (
        f"{name}: {spec.title}",
        f"  {source.url} at {source.commit[:12]}",
        f"  licence {source.licence} ({source.licence_url})",
        f"  {source.credit}",
    ):
        console.print(line, highlight=False, soft_wrap=True)
    kept = "Complete files are kept; run the same command to continue."
    with when_interrupted(kept), Steps(console) as steps:
        if from_ is not None and is_finished(from_):
            if seed:
                raise BadInput(
                    f"--seed is for generating rows; {from_} is a finished folder, "
                    "which is copied as it is"
                )
            steps.tell(f"checking and copying the finished folder {from_}")
            made = copy_finished(name, spec, from_, out)
        else:
            n_files = len(wanted_files(spec))
            if from_ is not None:
                steps.tell(f"reading {n_files} files of {from_}")
                found = local_files(name, spec, from_)
            else:
                steps.tell(f"downloading {n_files} files of {source.repo}")
                found = downloaded(
                    name,
                    spec,
                    settings.sources_url,
                    settings.root.sources,
                    lambda paths: steps.counted(paths, "files"),
                )
            steps.tell("finding near-duplicates, making rows")
            made = write_named(name, spec, found, out, seed)
    _say_written(console, out, made)
    console.print(f"next: aarlab task build {out}", soft_wrap=True)


def _say_written(console: Console, out: Path, made: "Written") -> None:
    for note in made.notes:
        console.print(f"  {note}")
    for reason, n_rows in made.left_out.items():
        console.print(f"  left out {n_rows:,} source rows: {reason}")
    counts = ", ".join(f"{stem} {n:,}" for stem, n in made.rows.items())
    console.print(f"wrote {out}: {counts} rows", soft_wrap=True)


@app.command()
def card(name: Annotated[str, typer.Argument()]) -> None:
    """Print a task's data card (operator): sizes, balance, lengths, shortcuts, duplicates."""
    root = data_root()
    path = root.vault_task(root.find_task(name).reference) / "card.md"
    if not path.is_file():
        raise NotFound(f"{name} has no card in this vault: build or import the task again")
    text = path.read_text(encoding="utf-8")
    Console().print(text[: text.rindex('{"canary"')], highlight=False)


@app.command("list")
def list_tasks(as_json: AsJson = False) -> None:
    """List tasks that are built here, version by version, and embedded ones that could be."""
    from aarlab.core.layout import embedded_names, uses

    root = data_root()
    used = [reference for use in uses(root) for reference in use.tasks]
    built = root.task_names()
    rows = [row for name in built for row in _rows(root, name, used)]
    others = [name for name in embedded_names() if name not in built]
    if as_json:
        to_build = [
            {"task": name, "pair": "embedded", "state": f"aarlab task build {name}"}
            for name in others
        ]
        print_json([*rows, *to_build])
        return
    columns = ("task", "kind", "pair", "train", "hidden train", "search", "state", "campaigns")
    table = Table()
    for column in columns:
        table.add_column(column, no_wrap=column == "task", overflow="fold")
    for row in rows:
        shown = {**row, "hidden train": _hidden_cell(row)}
        table.add_row(*(str(shown.get(column, "")) for column in columns))
    console = Console()
    if rows:
        console.print(table)
    if others:
        console.print(f"not built yet: {', '.join(others)}; to build one: aarlab task build NAME")


def _hidden_cell(row: dict[str, Any]) -> str:
    if "train_hidden" not in row:
        return ""
    return {0: "public", None: "yes"}.get(row["train_hidden"], str(row["train_hidden"]))


def _rows(root: "DataRoot", name: str, used: list[str]) -> list[dict[str, Any]]:
    from aarlab.testbed.tasks.task import load_info

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
        rows.append(
            {
                **known,
                "kind": info.kind,
                "pair": info.pair,
                "train": info.n_train,
                "train_hidden": _hidden_train_rows(root, one),
                "search": info.n_search,
                "state": state,
            }
        )
    if not rows:
        rows.append({"task": name, "state": f"damaged: no task.json in {root.public / name}"})
    return rows


@app.command()
def show(
    name: Annotated[str, typer.Argument()],
    rows: Annotated[int, typer.Option(min=0, help="examples to show")] = 3,
    as_json: AsJson = False,
) -> None:
    """Print a task's public facts, baselines and a few inputs (never a label)."""
    from aarlab.cli.operator import open_scorer
    from aarlab.core.headline import SPLITS_IN_WORDS
    from aarlab.testbed.tasks.task import open_public

    root, console = data_root().pin(name), Console()
    found, task = root.find_task(name), open_public(root.public_task(name))
    scorer, baselines = open_scorer(root), {}
    hidden = _hidden_train_rows(root, found)
    for split in ("search", "selection", "certify"):
        with suppress(BaselineMissing):
            baselines[split] = scorer.baselines(task.info.name, split)
    if as_json:
        shown = {split: base.model_dump() for split, base in baselines.items()}
        facts = {"reference": found.reference, **task.info.model_dump(mode="json")}
        facts["train_hidden"] = hidden
        print_json({**facts, "baselines": shown})
        return
    console.print(found.reference, highlight=False)
    console.print_json(task.info.model_dump_json())
    console.print(f"verified runs: {_of_train_rows(hidden)}")
    if task.info.problem.weak_labels:
        table = Table("split", "rows", "weak", "ceiling", title="baselines (operator)")
        for split in ("search", "selection", "certify"):
            if split not in baselines:
                table.add_row(split, "-", "-", "-")
                continue
            base = baselines[split]
            table.add_row(split, str(base.n_rows), f"{base.weak:.3f}", f"{base.ceiling:.3f}")
        console.print(table)
    console.print(SPLITS_IN_WORDS)
    for example in task.train[:rows]:
        console.rule(example.id)
        console.print(example.prompt, *example.answers, sep="\n---\n")


@app.command()
def use(task: Annotated[str, typer.Argument(help="NAME@VERSION, of `aarlab task list`")]) -> None:
    """Make this version the default of its task. Existing campaigns keep theirs."""
    root = data_root()
    found = root.find_task(task)
    root.set_default(found.name, found.version)
    Console().print(f"{found.name} is {found.reference} from now on", highlight=False)


@app.command()
def remove(
    task: Annotated[str, typer.Argument(help="NAME, or NAME@VERSION where there are several")],
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    force: Annotated[
        bool, typer.Option(help="also if finished campaigns use it; their results stay readable")
    ] = False,
) -> None:
    """Delete one version of a task, its hidden side too. Refused while a campaign needs it."""
    from aarlab.cli.options import confirmed
    from aarlab.core.layout import RunDir, users_of
    from aarlab.server.dashboard.run_files import state_of
    from aarlab.testbed.tasks.removing import remove_task

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
    from aarlab.core.layout import users_of

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
    from aarlab.testbed.tasks.task import has_hidden_train, load_info, load_inputs

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
    """Print, with figures, that a task has no PGR; prints no line if the gap is clear.

    Also prints none for a task of another research problem.
    """
    from aarlab.cli.operator import open_scorer
    from aarlab.core.pgr import NO_PGR

    if not info.problem.weak_labels:
        return
    scorer = open_scorer(data_root())
    found = {split: scorer.gap(info.name, split) for split in RANKED}
    unclear = {split: one for split, one in found.items() if not one.clear}
    for split, one in unclear.items():
        console.print(f"note: {info.name}, {split} split, {one.said()}", soft_wrap=True)
    if unclear:
        console.print(f"{NO_PGR}.", soft_wrap=True)
