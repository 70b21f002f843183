"""`aarlab testbed`: methods times seeds on one task, and tuning; no agent at all."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from aarlab.cli.ending import when_interrupted
from aarlab.cli.options import AsJson, check_file, comma_list, print_json
from aarlab.cli.settings import data_root
from aarlab.cli.steps import Waiting
from aarlab.cli.terminal import Console
from aarlab.core.clock import now_iso
from aarlab.core.errors import BadInput, Conflict, Damaged
from aarlab.core.extras import require
from aarlab.core.files import write_atomic, write_json

if TYPE_CHECKING:
    from aarlab.cli.published import PresetRun
    from aarlab.core.wire import Interval
    from aarlab.testbed.recipes.recipe import Recipe
    from aarlab.testbed.running.panel import Bench, PanelRow

app = typer.Typer(no_args_is_help=True, help="Run and tune methods on a task yourself.")
TaskName = Annotated[str, typer.Option(help="a built task; see `aarlab task list`")]
JsonOut = Annotated[Path | None, typer.Option("--json", help="also write JSON here")]
ReplaceJson = Annotated[bool, typer.Option("--replace", help="the file of --json, if there is one")]


@app.command()
def run(
    task: Annotated[str, typer.Option(help="a built task; see `aarlab task list`")] = "",
    methods: Annotated[
        str,
        typer.Option(
            help="names, method folders, recipe files, or all; comma-separated. Default: vanilla, "
            "confident; with --preset those published"
        ),
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, max=16)] = 5,
    guards: Annotated[
        bool | None,
        typer.Option(
            "--guards/--no-guards",
            help="add the guard baselines, of which one trains five students a seed; default: yes, "
            "with --preset no",
            show_default=False,
        ),
    ] = None,
    diagnostics: Annotated[bool, typer.Option(help="label-free diagnostics")] = False,
    permuted: Annotated[bool, typer.Option(help="also on permuted weak labels")] = False,
    json_out: JsonOut = None,
    replace_json: ReplaceJson = False,
    preset: Annotated[str, typer.Option(help="a published setting, e.g. qwen-paper")] = "",
    data: Annotated[Path | None, typer.Option(help="folder for the preset")] = None,
    pair: Annotated[str, typer.Option(help="another pair for the preset")] = "",
    weak: Annotated[Path | None, typer.Option(help="folder of the preset's weak model")] = None,
    strong: Annotated[Path | None, typer.Option(help="folder of its strong model")] = None,
    baseline_seeds: Annotated[
        int, typer.Option(min=2, max=64, help="of teacher and ceiling in the preset")
    ] = 16,
    epochs: Annotated[int, typer.Option(min=0, help="of the preset; 0: as published")] = 0,
    fresh: Annotated[bool, typer.Option(help="run again seeds that the preset keeps")] = False,
) -> int:
    """Run methods on the search split and print PGR with its 95 % interval.

    With --preset and --data: a weak teacher fine-tuned on train_label labels train_unlabel,
    students learn from it, ceilings from the truth, as published, and the whole of test is scored.
    The figures are compared with those published, and what differs in the settings is said. Seeds
    that are done are kept: the same command resumes. Where the gap is not clear the table has
    accuracies. The exit code is 2 when a method failed.
    """
    require("testbed")
    console = Console()
    check_json(json_out, replace_json)
    names = comma_list(methods or ("" if preset else "vanilla,confident"), "--methods")
    with_guards = not preset if guards is None else guards
    wanted = Wanted(task, names, seeds, with_guards, diagnostics, permuted, json_out=json_out)
    if preset:
        from aarlab.cli.published import Asked, prepared
        from aarlab.testbed.running.panel import methods_named

        methods_named(names)  # a name that is wrong is said before days of training
        asked = Asked(preset, data, pair, weak, strong, baseline_seeds, epochs, fresh)
        with when_interrupted("Finished seeds of the baselines are kept; run it again to resume."):
            made = prepared(asked, console)
        wanted = replace(wanted, methods=names or list(made.made.methods), preset=made)
    elif not task:
        raise BadInput("name a task with --task, or a setting with --preset and --data")
    elif weak or strong or data:
        raise BadInput("--data, --weak and --strong belong to --preset")
    return run_table(wanted, console)


def check_json(path: Path | None, replace_it: bool) -> None:
    """Raise Conflict if the file of --json exists and may not be replaced."""
    if path is not None:
        check_file(path, replace_it, "--json")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request for a table of methods on one task.

    With `own_first`, the run ends if the first method fails.
    """

    task: str
    methods: list[str]
    seeds: int
    guards: bool = True
    diagnostics: bool = False
    permuted: bool = False
    json_out: Path | None = None
    own_first: bool = False
    preset: "PresetRun | None" = None


def run_table(wanted: Wanted, console: Console) -> int:
    """Run the methods and print the table; returns 2 if a method failed, else 0."""
    from aarlab.testbed.running.panel import Extras, methods_named, run_panel

    require("testbed")
    rows, preset = list["PanelRow"](), wanted.preset
    chosen = methods_named(wanted.methods, wanted.guards)
    out = wanted.json_out
    kept = f"The methods that finished are in {out}" if out else "No score was kept"
    note = f"{kept}; the same command starts all methods again."
    if preset is not None:
        chosen, note = preset.methods(chosen), "Finished seeds are kept; run it again to resume."
    with when_interrupted(note), Waiting("reading the task") as waiting:
        bench = (
            _search_bench(wanted.task, waiting.at) if preset is None else preset.bench(waiting.at)
        )
        ticks = lambda m, s: waiting.at(f"{m}, seed {s}")  # noqa: E731
        extras = Extras(wanted.diagnostics, wanted.permuted)
        for row in run_panel(chosen, bench, wanted.seeds, ticks, extras):
            rows.append(row)
            if out is not None and preset is None:  # an interrupted run keeps what it has
                write_json(out, _as_json(bench, rows))
            if row.failed and wanted.own_first and len(rows) == 1:
                break
    failed = [row for row in rows if row.failed]
    if len(failed) < len(rows):
        console.print(_scores(bench, rows, wanted))
        _note_on_gap(console, bench)
        if wanted.diagnostics:
            console.print(_diagnostics(rows))
    for row in failed:
        console.print(f"{row.method}: {row.failed}", highlight=False)
    if preset is not None:
        compared = preset.compare(bench, rows, wanted.seeds)
        preset.show(compared, console)
        if out is not None:
            write_json(out, {**_as_json(bench, rows), "published": compared})
    if out is not None:
        console.print(f"wrote {out}")
    return 2 if failed else 0


def _note_on_gap(console: Console, bench: "Bench") -> None:
    """Print why the table has accuracies, if it has: the gap on its own rows is not clear."""
    from aarlab.core.pgr import NO_PGR

    info = bench.task.info
    if info.problem.weak_labels and not (gap := bench.judge.gap(info.name, bench.split)).clear:
        console.print(
            f"note: {info.name}, {bench.shown or f'{bench.split} split'}, {gap.said()}. {NO_PGR}.",
            soft_wrap=True,
        )


@app.command()
def sweep(
    task: TaskName,
    methods: Annotated[str, typer.Option(help="recipes by name or file, comma-separated")],
    options: Annotated[
        str, typer.Option(help="e.g. train.lr; default: the method's own; or all")
    ] = "",
    trials: Annotated[int, typer.Option(min=1, help="budget of each method")] = 20,
    sampler: Annotated[Literal["random", "bayes"], typer.Option()] = "bayes",
    seeds: Annotated[int, typer.Option(min=1, max=16, help="of each trial")] = 3,
    final_seeds: Annotated[int, typer.Option(min=1, max=16, help="of the selection score")] = 8,
    out: Annotated[Path, typer.Option(help="folder: tuned recipes, journal, scores")] = Path(
        "sweep"
    ),
    as_json: AsJson = False,
) -> None:
    """Tune options on the search split, then score the best once on selection.

    With the study's methods (vanilla, confident, aux_confidence, zero_shot and a budget for each)
    this is the human baseline; that of the embedded tasks ships (testbed/tuned). The same command
    continues where an interrupted one stopped.
    """
    require("testbed", "sweep")
    from aarlab.cli.operator import selection_bench
    from aarlab.testbed.methods import method_of_recipe
    from aarlab.testbed.running.panel import run_panel
    from aarlab.testbed.running.sweep import SweepPlan, live_options, own_options
    from aarlab.testbed.running.sweep import sweep as run_sweep

    console = Console(stderr=as_json)
    bench = _search_bench(task, lambda line: console.print(f"  {line}"))
    final = selection_bench(data_root().pin(task), bench.task)
    _require_gap(bench, final)
    interval = "95 % interval" if final_seeds > 1 else "one seed"
    table = Table("method", "search PGR", "selection PGR", interval, "trials", title=task)
    recipes = _recipes(methods)
    settings = {
        "trials": trials,
        "sampler": sampler,
        "seeds": seeds,
        "final_seeds": final_seeds,
        "asked": options,
    }
    results = _kept_results(out, bench, settings, list(recipes))
    for name, recipe in recipes.items():
        paths = tuple(comma_list(options, "--options")) or own_options(recipe)
        paths = live_options(recipe) if paths == ("all",) else paths
        plan = SweepPlan(name, recipe, paths, trials, sampler, seeds)
        note = f"Finished trials are in {out}; run the same command to resume."
        with when_interrupted(note), console.status(name) as status:
            told = lambda n, value: status.update(f"{name}: trial {n}, PGR {value:+.2f}")  # noqa: E731, B023
            found = run_sweep(plan, bench, out / "journal.log", told)
        (row,) = run_panel([method_of_recipe(name, found.recipe)], final, final_seeds)
        assert row.pgr is not None
        write_atomic(out / f"{name}.json", found.recipe.to_json())
        results.append(
            {
                "method": name,
                "recipe": found.recipe.model_dump(),
                "trials": found.trials,
                "failed_trials": found.failed,
                "search_pgr": found.search_pgr,
                "selection": row.pgr.model_dump(),
                "options": list(paths),
                "settings": settings,
            }
        )
        write_json(out / "scores.json", {**_facts(bench), "sampler": sampler, "results": results})
        table.add_row(
            name,
            f"{found.search_pgr:+.2f}",
            f"{row.pgr.value:+.2f}",
            _span(row.pgr),
            str(found.trials),
        )
        console.print(f"{name}: {found.recipe.describe()}")
    if as_json:
        print_json(results)
        return
    console.print(table)
    console.print(
        f"search: the best of {trials} trials on {seeds} seeds, so it flatters; selection: once, "
        f"{final_seeds} fresh seeds and weak teachers. Recipes are in {out}."
    )


def _kept_results(
    out: Path, bench: "Bench", settings: dict[str, Any], methods: list[str]
) -> list[dict[str, Any]]:
    """Return the results of other methods from earlier sweeps into this folder.

    Raises Conflict if the folder holds something else, a sweep on another task, or one of these
    methods tuned with other settings. Raises Damaged if its scores cannot be read.
    """
    path = out / "scores.json"
    if out.is_dir() and any(out.iterdir()) and not (out / "journal.log").is_file():
        raise Conflict(f"{out} already exists and does not hold a sweep: choose another --out")
    if not path.is_file():
        return []
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        task, kept = known["content_hash"], [dict(one) for one in known["results"]]
    except (ValueError, KeyError, TypeError):
        raise Damaged(f"{path} is not what a sweep writes: choose another --out") from None
    if task != bench.task.info.content_hash:
        raise Conflict(f"{out} holds a sweep on another task or version: choose another --out")
    again = [one for one in kept if one.get("method") in methods]
    if other := [one["method"] for one in again if one.get("settings") != settings]:
        raise Conflict(f"{out} holds {other[0]} tuned with other settings: choose another --out")
    return [one for one in kept if one not in again]


def _recipes(methods: str) -> "dict[str, Recipe]":
    from aarlab.testbed.running.panel import method_at

    found = {}
    for name in comma_list(methods, "--methods", at_least=1):
        method = method_at(name)
        if method.recipe is None:
            raise BadInput(f"{method.name} is plain code: only a recipe's options can be tuned")
        found[method.name] = method.recipe
    return found


def _search_bench(task: str, tell: Callable[[str], None]) -> "Bench":
    from aarlab.cli.operator import open_scorer
    from aarlab.testbed.running.panel import search_bench
    from aarlab.testbed.tasks.making import Workshop
    from aarlab.testbed.tasks.task import open_public

    root = data_root().pin(task)
    public = open_public(root.public_task(task))
    scorer = open_scorer(root)
    return search_bench(public, Workshop(root, tell).strong_features(public), scorer)


def _require_gap(*benches: "Bench") -> None:
    """Raise GapNotPositive unless every gap is clear, because tuning ranks by PGR."""
    from aarlab.testbed.students.baselines import check_gap

    for bench in benches:
        task = bench.task.info.name
        check_gap(task, {bench.split: bench.judge.gap(task, bench.split)})


def _scores(bench: "Bench", rows: "list[PanelRow]", wanted: Wanted) -> Table:
    from aarlab.cli.verifying import head_of

    name, split = bench.task.info.name, bench.split
    base, rows_are = bench.judge.baselines(name, split), bench.shown or f"{split} split"
    table = Table(
        title=f"{name}, {rows_are}: {base.n_rows} rows, {wanted.seeds} seeds; "
        f"weak {base.weak:.3f}, ceiling {base.ceiling:.3f}"
    )
    table.add_column("method", overflow="fold", min_width=8)
    clear = bench.judge.gap(name, split).clear
    interval = head_of(next((row.accuracy for row in rows if row.accuracy is not None), None))
    heads = ["PGR", interval, "accuracy"] if clear else ["accuracy", interval]
    heads += (["permuted", "TC"] if clear else ["permuted"]) if wanted.permuted else []
    heads += [] if clear else ["less vanilla"]
    for head in (*heads, "s"):
        table.add_column(head, justify="right", no_wrap=head != "less vanilla")
    vanilla = next((row for row in rows if row.method == "vanilla"), None)
    for row in rows:
        shown = f"{row.method}{' (guard)' if row.guard else ''}"
        shown += f", {row.n_kept} of {row.n_seeds} seeds kept" if row.n_kept else ""
        if row.accuracy is None:
            table.add_row(shown, "failed")
            continue
        cells = _pgr_cells(row) if clear else _accuracy_cells(row, vanilla, bench)
        table.add_row(shown, *cells, f"{row.seconds:.1f}")
    return table


def _pgr_cells(row: "PanelRow") -> list[str]:
    assert row.pgr is not None
    cells = [f"{row.pgr.value:+.2f}", _span(row.pgr), f"{row.transfer:.3f}"]
    if row.permuted is not None:
        teacher = row.teacher_contribution
        cells.append(f"{row.permuted.value:+.2f}")
        cells.append("not defined" if teacher is None else f"{teacher:.2f}")
    return cells


def _accuracy_cells(row: "PanelRow", vanilla: "PanelRow | None", bench: "Bench") -> list[str]:
    assert row.accuracy is not None
    cells = [f"{row.accuracy.value:.3f}", f"[{row.accuracy.low:.3f}, {row.accuracy.high:.3f}]"]
    if row.permuted_accuracy is not None:
        cells += [f"{row.permuted_accuracy.value:.3f}"]
    less = _less(row, vanilla, bench)
    return [*cells, "" if less is None else f"{less.value:+.3f} {_span(less, 3)}"]


def _less(row: "PanelRow", other: "PanelRow | None", bench: "Bench") -> "Interval | None":
    """Return the paired difference to another method of the table.

    Returns None for the method itself and where either method failed.
    """
    if other is None or other is row or other.predictions is None or row.predictions is None:
        return None
    name = bench.task.info.name
    return bench.judge.difference(name, bench.split, row.predictions, other.predictions)


def _diagnostics(rows: "list[PanelRow]") -> Table:
    done = [row for row in rows if row.diagnostics]
    names = list(done[0].diagnostics) if done else []
    heads = [name.replace("_", " ") for name in names]
    table = Table("method", *heads, title="label-free diagnostics: nothing is ranked by them")
    for row in done:
        table.add_row(row.method, *(f"{row.diagnostics[name]:.2f}" for name in names))
    return table


def _span(interval: "Interval", digits: int = 2) -> str:
    return f"[{interval.low:+.{digits}f}, {interval.high:+.{digits}f}]"


def _facts(bench: "Bench") -> dict[str, Any]:
    info = bench.task.info
    base = bench.judge.baselines(info.name, bench.split)
    return {
        "task": info.name,
        "at": now_iso(),
        "content_hash": info.content_hash,
        "pair": info.pair,
        "baselines": base.model_dump(),
    }


def _as_json(bench: "Bench", rows: "list[PanelRow]") -> dict[str, Any]:
    vanilla = next((row for row in rows if row.method == "vanilla"), None)
    made = []
    for row in rows:
        less = _less(row, vanilla, bench)
        figures = ("pgr", "accuracy", "permuted", "permuted_accuracy")
        shown = {name: (one := getattr(row, name)) and one.model_dump() for name in figures}
        facts = asdict(replace(row, predictions=None)) | shown
        del facts["predictions"]
        facts |= {"transfer": row.transfer, "teacher_contribution": row.teacher_contribution}
        made.append(facts | {"less_vanilla": less and less.model_dump()})
    found = bench.judge.gap(bench.task.info.name, bench.split)
    return {
        **_facts(bench),
        "split": bench.shown or bench.split,
        "gap_is_clear": found.clear,
        "methods": made,
    }
