"""`aarlab method`: your own method: begin one, check its contract, get an honest PGR."""

import contextlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from aarlab.cli import testbed
from aarlab.cli.options import AsJson, print_json
from aarlab.cli.settings import data_root
from aarlab.cli.steps import Waiting
from aarlab.cli.terminal import Console
from aarlab.core.errors import BadInput, Conflict, MethodFailed, NotFound
from aarlab.core.extras import require
from aarlab.core.isolation import DEFAULT_SANDBOX, SandboxKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aarlab.campaign.spec import CampaignSpec
    from aarlab.testbed.running.checking import Report

app = typer.Typer(no_args_is_help=True, help="Your own methods, and the built-in ones.")
CHECK_S = 300
INSTALLED = "installed packages"
EXAMPLE = '''"""{name}: train on the rows that the weak teacher is sure about."""

import numpy as np


def fit(task, student, seed):
    """task: inputs, weak_labels_N (P(label 1) by the weak teacher), groups, kind; never a truth.
    student: new(options) makes a fresh strong student; states(inputs) its frozen states (N, A, D);
    zero_shot(inputs) the strong model's log-likelihoods. Draw randomness from the seed only."""
    sure_N = np.abs(task.weak_labels_N - 0.5)
    kept = np.flatnonzero(sure_N >= np.median(sure_N))
    rows = [task.inputs[i] for i in kept]
    options = student.options.model_copy(update={{"seed": seed}})
    return student.new(options).fit(rows, task.weak_labels_N[kept])  # has predict_proba(inputs)
'''


@app.command("list")
def list_methods(as_json: AsJson = False) -> None:
    """List the built-in methods, family by family, and those of installed packages."""
    from aarlab.core.registry import place_of
    from aarlab.testbed.methods import FAMILIES, REGISTRY

    installed = {name: place_of(entry) for name, entry in REGISTRY.installed().items()}
    if as_json:
        rows = [
            {
                "method": method.name,
                "family": title,
                "needs_model": method.needs_model,
                "guard": method.guard,
                "doc": " ".join(method.doc.split()),
            }
            for title, methods in FAMILIES.items()
            for method in methods
        ]
        rows += [
            {
                "method": name,
                "family": INSTALLED,
                "needs_model": False,
                "guard": False,
                "doc": where,
            }
            for name, where in installed.items()
        ]
        print_json(rows)
        return
    table = Table("method", "what it does")
    for title, methods in FAMILIES.items():
        if methods:
            table.add_section()
            table.add_row(Text(title, style="bold"))
        for method in methods:
            needs = " (needs a task with the model)" if method.needs_model else ""
            table.add_row(method.name, _first_sentence(method.doc) + needs)
    if installed:
        table.add_section()
        table.add_row(Text(INSTALLED, style="bold"))
    for name, where in installed.items():
        table.add_row(name, Text(where))
    Console().print(table)


@app.command()
def show(name: Annotated[str, typer.Argument(help="a built-in or installed method")]) -> None:
    """Print the source, formula, defaults and what is known about a method."""
    import inspect

    from aarlab.testbed.methods import find_method

    method = find_method(name)
    console = Console()
    console.print(inspect.cleandoc(method.doc))
    if method.recipe is not None:
        console.print(f"\nrecipe: {method.recipe.describe()}")


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(help="a new folder")],
    like: Annotated[str, typer.Option(help="begin with a built-in recipe instead")] = "",
) -> None:
    """Begin a method folder: a worked example of 20 lines, or a built-in recipe to change."""
    from aarlab.testbed.methods import find_method
    from aarlab.testbed.running.method_folder import recipe_files, write_method

    if folder.exists():
        raise Conflict(f"{folder} exists already: choose another name")
    files = {"method.py": EXAMPLE.format(name=folder.name)}
    if like:
        method = find_method(like)
        if method.recipe is None:
            raise BadInput(f"{like} is plain code, not a recipe: read it in aarlab/testbed/methods")
        files = recipe_files(method.recipe, like)
    write_method(folder, files)
    Console().print(
        f"wrote {', '.join(sorted(files))} in {folder}\nnext: aarlab method check {folder}"
    )


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="with method.py, or an installed method's name")],
    as_json: Annotated[bool, typer.Option("--json", help="print the report as JSON")] = False,
) -> None:
    """Run the method on two toy tasks and explain every violation of the contract."""
    require("testbed")
    from aarlab.testbed.running.frozen_method import folder_at

    folder = folder_at(folder, str(folder))
    if not folder.is_dir():
        raise NotFound(f"no folder {folder}; aarlab method new {folder} makes one")
    report = _checked(folder)
    console = Console()
    if as_json:
        console.print_json(json.dumps(report.model_dump()))
    else:
        _print(console, report)
    if report.violations:
        n = len(report.violations)
        raise MethodFailed(f"{folder.name}: {n} violation{'s' * (n > 1)} of the contract")


def _checked(folder: Path) -> "Report":
    """Check a method folder in a separate process, showing the stage on stderr.

    Raises MethodFailed if the process takes longer than CHECK_S seconds or ends without a report.
    """
    from aarlab.testbed.running.checking import Report

    with tempfile.TemporaryDirectory() as scratch, Waiting("start") as waiting:
        out, errors = Path(scratch) / "report.json", Path(scratch) / "stderr"
        stage = Path(f"{out}.stage")
        words = [
            sys.executable,
            "-m",
            "aarlab.testbed.running.checking",
            str(folder.resolve()),
            str(out),
        ]
        with errors.open("wb") as sink:
            child = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=sink
            )
        try:
            while child.poll() is None and waiting.elapsed_s < CHECK_S:
                with contextlib.suppress(OSError):
                    waiting.at(f"{folder.name}, {stage.read_text(encoding='utf-8')}")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(0.2)
        finally:
            ended = child.poll() is not None
            child.kill()
            child.wait()
        if not ended:
            raise MethodFailed(f"{waiting.stage}: no end after {CHECK_S} s on 160 rows")
        if not out.exists():
            last = errors.read_bytes()[-500:].decode(errors="replace")
            raise MethodFailed(f"{waiting.stage}: it ended the process: {last}")
        return Report.model_validate_json(out.read_text(encoding="utf-8"))


def broken_contracts(spec: "CampaignSpec") -> "Iterator[str]":
    """Yield the violations that `check` finds in the frozen files of a campaign's own methods."""
    from aarlab.campaign.spec import unpacked

    for name, files in spec.methods.items():
        with tempfile.TemporaryDirectory() as place:
            for path, data in unpacked(name, files).files.items():
                target = Path(place) / name / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
            try:
                report = _checked(Path(place) / name)
            except MethodFailed as error:
                yield f"method {name}: {error}"
                continue
            for one in report.violations:
                yield f"method {name} ({one.kind} rows): {one.what}\n  -> {one.mend}"


def _print(console: Console, report: "Report") -> None:
    for one in report.findings:
        colour = "red" if one.level == "violation" else "yellow"
        console.print(one.level, style=colour, end="")
        console.print(f" ({one.kind} rows): ", end="")
        console.print(f"{one.what}\n  -> {one.mend}", highlight=False)
    if not report.violations:
        console.print(f"{report.method} meets the contract", style="green")


@app.command()
def run(
    folder: Annotated[Path, typer.Argument(help="with method.py, or an installed method's name")],
    task: Annotated[str, typer.Option(help="a built task; see `aarlab task list`")],
    seeds: Annotated[int, typer.Option(min=1, max=16)] = 5,
    permuted: Annotated[bool, typer.Option(help="also on permuted weak labels")] = True,
    json_out: testbed.JsonOut = None,
    replace_json: testbed.ReplaceJson = False,
) -> int:
    """Print an honest PGR of your method next to vanilla and the guard baselines, without an agent.

    Your method runs first: when it fails, its own lines are shown and the exit code is 2.
    """
    from aarlab.testbed.running.frozen_method import folder_at

    folder = folder_at(folder, str(folder))
    if not (folder / "method.py").is_file():
        there = "has no method.py" if folder.exists() else "does not exist"
        raise NotFound(f"the folder {folder} {there}: aarlab method new NAME makes a method")
    testbed.check_json(json_out, replace_json)
    wanted = testbed.Wanted(
        task=task,
        methods=[str(folder.resolve()), "vanilla"],
        seeds=seeds,
        diagnostics=True,
        permuted=permuted,
        json_out=json_out,
        own_first=True,
    )
    return testbed.run_table(wanted, Console())


@app.command()
def verify(
    folders: Annotated[
        list[Path], typer.Argument(help="method folders or installed methods, scored side by side")
    ],
    task: Annotated[str, typer.Option(help="a built task; see `aarlab task list`")],
    seeds: Annotated[int, typer.Option(min=2, max=16)] = 8,
    seed_base: Annotated[
        int | None, typer.Option(min=0, help="first seed of a repeatable run; default: drawn")
    ] = None,
    sandbox: Annotated[
        SandboxKind,
        typer.Option(help="process: no isolation, and the score says so"),
    ] = DEFAULT_SANDBOX,
    as_json: AsJson = False,
) -> int:
    """Score methods on the hidden selection split, with fresh teachers, and audit them.

    Also on permuted weak labels, and paired with vanilla and the best guard: same rows, teachers
    and seeds. Seeds are drawn when the folders have been read. The exit code is 2 when any failed.
    """
    require("testbed", "sandbox")
    from aarlab.cli import verifying
    from aarlab.cli.operator import open_scorer
    from aarlab.sandbox.probe import probe
    from aarlab.testbed.running.frozen_method import folder_at, freeze_all
    from aarlab.testbed.tasks.task import load_info
    from aarlab.verify.own import SPLIT, Plan, draw_seeds, verify_methods

    methods = freeze_all([folder_at(folder, str(folder)) for folder in folders])
    root = data_root().pin(task)
    name = load_info(root.public_task(task)).name
    scorer = open_scorer(root)
    gap = scorer.gap(name, SPLIT)
    drawn = draw_seeds(seeds, seed_base)
    with Waiting("trying the sandbox") as waiting:
        probe(sandbox)
        plan = Plan(root, name, drawn, sandbox, seed_base is not None)
        verdicts = verify_methods(methods, plan, scorer, waiting.at)
    if as_json:
        print_json(verifying.as_json(verdicts))
    else:
        title = f"{task}, hidden {SPLIT} split, {seeds} seeds, fresh weak teachers"
        verifying.show(Console(), verdicts, gap, title)
    return 2 if any(verdict.kind == "failed" for verdict in verdicts) else 0


def _first_sentence(doc: str) -> str:
    """Return the first sentence of a docstring without catalogue numbers and final period."""
    text = re.sub(r"\s\(\d+\)", "", " ".join(doc.split()))
    return text.split(". ")[0].rstrip(".")
