"""`aarlab testbed`: methods times seeds on one task, and tuning; no agent at all."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from aarlab.cli.asking import check_file
from aarlab.cli.ending import when_interrupted
from aarlab.cli.printing import AsJson, print_json
from aarlab.cli.settings import data_root
from aarlab.cli.terminal import Console
from aarlab.cli.values import comma_list
from aarlab.core.clock import now_iso
from aarlab.core.errors import BadInput, Conflict, Damaged
from aarlab.core.extras import require
from aarlab.core.files import write_atomic, write_json
from aarlab.core.wire import Interval

if TYPE_CHECKING:
    from aarlab.core.wire import Interval
    from aarlab.testbed.panel import Bench, PanelRow
    from aarlab.testbed.recipe import Recipe

app = typer.Typer(no_args_is_help=True, help="Run and tune methods on a task yourself.")
TaskName = Annotated[str, typer.Option(help="a built task; see `aarlab task list`")]
JsonOut = Annotated[Path | None, typer.Option("--json", help="also write JSON here")]


@app.command()
def run(
    task: Annotated[str, typer.Option(help="a built task; see `aarlab task list`")] = "",
    methods: Annotated[
        str, typer.Option(help="names, method folders, recipe files, or all; comma-separated")
    ] = "vanilla,confident",
    seeds: Annotated[int, typer.Option(min=1, max=16)] = 5,
    guards: Annotated[bool, typer.Option(help="add the guard baselines")] = True,
    diagnostics: Annotated[bool, typer.Option(help="label-free diagnostics")] = False,
    permuted: Annotated[bool, typer.Option(help="also on permuted weak labels")] = False,
    json_out: JsonOut = None,
    replace_json: Annotated[
        bool, typer.Option("--replace", help="the file of --json, if there is one")
    ] = False,
    preset: Annotated[str, typer.Option(help="a published setting, e.g. qwen-paper")] = "",
    data: Annotated[Path | None, typer.Option(help="folder for the preset")] = None,
    pair: Annotated[str, typer.Option(help="another pair for the preset")] = "",
    baseline_seeds: Annotated[int, typer.Option(min=2, max=64, help="of the preset")] = 10,
    epochs: Annotated[int, typer.Option(min=0, help="of the preset; 0: as published")] = 0,
    allow_small_gap: Annotated[
        bool, typer.Option(help="accuracies instead of PGR where the gap is not clear")
    ] = False,
) -> None:
    """Run methods on the search split and print PGR with its 95 % interval.

    With --preset and --data: a weak teacher fine-tuned on train_label labels train_unlabel,
    students learn from it, ceilings from the truth, as published. It goes on where it was cut off.
    """
    from dataclasses import replace

    require("testbed")
    from aarlab.testbed.panel import Extras, methods_named, run_panel

    console, rows = Console(), list["PanelRow"]()
    first_seed = 0
    if json_out is not None:
        check_file(json_out, replace_json, "--json")
    if preset:
        given = (pair, baseline_seeds, not allow_small_gap)
        with when_interrupted("Finished seeds of the baselines are kept; run it again to resume."):
            task, first_seed = _published(preset, data, given, epochs, console)
    elif not task:
        raise BadInput("name a task with --task, or a setting with --preset and --data")
    kept = f"The methods that finished are in {json_out}" if json_out else "No score was kept"
    bench = replace(_search_bench(task, console, allow_small_gap), first_seed=first_seed)
    chosen = methods_named(comma_list(methods, "--methods", at_least=1), guards)
    extras = Extras(diagnostics, permuted, allow_small_gap and not _has_gap(bench))
    note = f"{kept}; the same command starts all methods again."
    with when_interrupted(note), console.status("running") as status:
        ticks = lambda m, s: status.update(f"{m}, seed {s}")  # noqa: E731
        for row in run_panel(chosen, bench, seeds, ticks, extras):
            rows.append(row)
            if json_out is not None:  # as it goes: an interrupted run keeps what it has
                write_json(json_out, _as_json(bench, rows))
    console.print(_scores(bench, rows, seeds, permuted))
    if diagnostics:
        console.print(_diagnostics(rows))
    for row in rows:
        if row.failed:
            console.print(f"{row.method}: {row.failed}", markup=False, highlight=False)
    if json_out is not None:
        console.print(f"wrote {json_out}")


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
    """Tune options on the search split; then one honest score of the best on selection.

    With the study's methods (vanilla, confident, aux_confidence, zero_shot and a budget for each)
    this is the human baseline; that of the embedded tasks ships (testbed/tuned). The same command
    goes on where an interrupted one stopped.
    """
    require("testbed", "sweep")
    from aarlab.cli.operator import selection_bench
    from aarlab.testbed.methods import method_of_recipe
    from aarlab.testbed.panel import run_panel
    from aarlab.testbed.sweep import SweepPlan, live_options, own_options
    from aarlab.testbed.sweep import sweep as run_sweep

    console = Console(stderr=as_json)
    bench = _search_bench(task, console)
    final = selection_bench(data_root().pin(task), bench.task)
    table = Table("method", "search PGR", "selection PGR", "95 % interval", "trials", title=task)
    recipes = _recipes(methods)
    settings = {"trials": trials, "sampler": sampler, "seeds": seeds, "final_seeds": final_seeds,
                "asked": options}  # fmt: skip
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
        results.append({"method": name, "recipe": found.recipe.model_dump(), "trials": found.trials,
                        "failed_trials": found.failed, "search_pgr": found.search_pgr,
                        "selection": row.pgr.model_dump(), "options": list(paths),
                        "settings": settings})  # fmt: skip
        write_json(out / "scores.json", {**_facts(bench), "sampler": sampler, "results": results})
        table.add_row(name, f"{found.search_pgr:+.2f}", f"{row.pgr.value:+.2f}", _span(row.pgr),
                      str(found.trials))  # fmt: skip
        console.print(f"{name}: {found.recipe.describe()}", markup=False)
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
    """Results of other methods from earlier sweeps into this folder; Conflict where this sweep
    would write over those of another task, or of one of its methods with other settings."""
    path = out / "scores.json"
    if out.is_dir() and any(out.iterdir()) and not (out / "journal.log").is_file():
        raise Conflict(f"{out} is there already and holds no sweep: choose another --out")
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
    from aarlab.testbed.panel import method_at

    found = {}
    for name in comma_list(methods, "--methods", at_least=1):
        method = method_at(name)
        if method.recipe is None:
            raise BadInput(f"{method.name} is plain code: only a recipe's options can be tuned")
        found[method.name] = method.recipe
    return found


def _published(
    preset: str, data: Path | None, given: tuple[str, int, bool], epochs: int, console: Console
) -> tuple[str, int]:
    """Build the task of a published setting; its name and first seed."""
    from aarlab.testbed.making import Workshop
    from aarlab.testbed.published import setting

    if data is None:
        raise BadInput(f"--preset {preset} needs --data FOLDER (train_label, train_unlabel, test)")
    made, (pair, baseline_seeds, require_gap) = setting(preset, epochs or None), given
    name = f"{data.resolve().name.lower()}-{pair or made.name}".replace("_", "-")
    shop = Workshop(data_root(), lambda line: console.print(f"  {line}"))
    wanted = (pair or made.pair, baseline_seeds, require_gap)
    return shop.build_published(data, name, made, wanted).info.name, made.first_seed


def _has_gap(bench: "Bench") -> bool:
    from aarlab.core.errors import GapNotPositive

    try:
        bench.judge.check(bench.task.info.name)
    except GapNotPositive:
        return False
    return True


def _search_bench(task: str, console: Console, small_gap: bool = False) -> "Bench":
    from aarlab.cli.operator import open_scorer
    from aarlab.testbed.making import Workshop
    from aarlab.testbed.panel import search_bench
    from aarlab.testbed.task import open_public

    root = data_root().pin(task)
    public = open_public(root.public_task(task))
    scorer = open_scorer(root)
    if not small_gap:
        scorer.check(public.info.name)
    features = Workshop(root, lambda line: console.print(f"  {line}")).strong_features(public)
    return search_bench(public, features, scorer)


def _scores(bench: "Bench", rows: "list[PanelRow]", seeds: int, permuted: bool) -> Table:
    base = bench.judge.baselines(bench.task.info.name, bench.split)
    table = Table(
        title=f"{bench.task.info.name}, {bench.split} split: {base.n_rows} rows, {seeds} seeds; "
        f"weak {base.weak:.3f}, ceiling {base.ceiling:.3f}"
    )
    table.add_column("method", overflow="fold")
    extra = ("permuted", "TC") if permuted else ()
    for name in ("PGR", "95 % interval", "accuracy", *extra, "s"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        name = f"{row.method}{' (guard)' if row.guard else ''}"
        if row.transfer is None:
            table.add_row(name, "failed")
            continue
        pgr = (
            ["", "gap not clear"] if row.pgr is None else [f"{row.pgr.value:+.2f}", _span(row.pgr)]
        )
        cells = [*pgr, f"{row.transfer:.3f}"]
        if permuted and row.permuted is not None:
            cells += [f"{row.permuted.value:+.2f}", _contribution(row.teacher_contribution)]
        table.add_row(name, *cells, f"{row.seconds:.1f}")
    return table


def _diagnostics(rows: "list[PanelRow]") -> Table:
    done = [row for row in rows if row.diagnostics]
    names = list(done[0].diagnostics) if done else []
    heads = [name.replace("_", " ") for name in names]
    table = Table("method", *heads, title="label-free diagnostics: nothing is ranked by them")
    for row in done:
        table.add_row(row.method, *(f"{row.diagnostics[name]:.2f}" for name in names))
    return table


def _contribution(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.2f}"


def _span(interval: "Interval") -> str:
    return f"[{interval.low:+.2f}, {interval.high:+.2f}]"


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
    made = [
        {
            **asdict(row),
            "pgr": row.pgr and row.pgr.model_dump(),
            "permuted": row.permuted and row.permuted.model_dump(),
            "teacher_contribution": row.teacher_contribution,
        }
        for row in rows
    ]
    return {**_facts(bench), "split": bench.split, "methods": made}
