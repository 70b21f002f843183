"""`aarlab method`: your own method: begin one, check its contract, get an honest PGR."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from aarlab.cli import testbed
from aarlab.cli.printing import AsJson, print_json
from aarlab.cli.terminal import Console
from aarlab.core.errors import BadInput, Conflict, MethodFailed, NotFound
from aarlab.core.extras import require

app = typer.Typer(no_args_is_help=True, help="Your own methods, and the built-in ones.")
CHECK_S = 300
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
    """The built-in methods, family by family."""
    from aarlab.testbed.methods import FAMILIES

    if as_json:
        rows = [
            {"method": method.name, "family": title, "needs_model": method.needs_model,
             "guard": method.guard, "doc": " ".join(method.doc.split())}
            for title, methods in FAMILIES.items()
            for method in methods
        ]  # fmt: skip
        print_json(rows)
        return
    table = Table("method", "what it does")
    for title, methods in FAMILIES.items():
        if methods:
            table.add_section()
            table.add_row(Text(title, style="bold"))
        for method in methods:
            needs = " (needs the model at hand)" if method.needs_model else ""
            table.add_row(method.name, _first_sentence(method.doc) + needs)
    Console().print(table)


@app.command()
def show(name: Annotated[str, typer.Argument(help="a built-in method")]) -> None:
    """Source, formula, defaults and what is known about a method."""
    import inspect

    from aarlab.testbed.methods import find_method

    method = find_method(name)
    console = Console()
    console.print(inspect.cleandoc(method.doc), markup=False)
    if method.recipe is not None:
        console.print(f"\nrecipe: {method.recipe.describe()}", markup=False)


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(help="made anew")],
    like: Annotated[str, typer.Option(help="begin with a built-in recipe instead")] = "",
) -> None:
    """Begin a method folder: a worked example of 20 lines, or a built-in recipe to change."""
    from aarlab.testbed.method_folder import recipe_files, write_method
    from aarlab.testbed.methods import find_method

    if folder.exists():
        raise Conflict(f"{folder} exists already: choose another name")
    files = {"method.py": EXAMPLE.format(name=folder.name)}
    if like:
        method = find_method(like)
        if method.recipe is None:
            raise BadInput(f"{like} is plain code, no recipe: read it in aarlab/testbed/methods")
        files = recipe_files(method.recipe, like)
    write_method(folder, files)
    Console().print(
        f"wrote {', '.join(sorted(files))} in {folder}\nnext: aarlab method check {folder}"
    )


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="with method.py")],
    as_json: Annotated[bool, typer.Option("--json", help="print the report as JSON")] = False,
) -> None:
    """Run the method on two toy tasks and explain every violation of the contract."""
    require("testbed")
    from aarlab.testbed.checking import Report

    if not folder.is_dir():
        raise NotFound(f"no folder {folder}; aarlab method new {folder} makes one")
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "report.json"
        words = [sys.executable, "-m", "aarlab.testbed.checking", str(folder.resolve()), str(out)]
        try:
            done = subprocess.run(
                words,
                capture_output=True,
                text=True,
                timeout=CHECK_S,
                check=False,
                encoding="utf-8",
                errors="replace",
            )
        except subprocess.TimeoutExpired as error:
            raise MethodFailed(f"{folder.name}: no end after {CHECK_S} s on 160 rows") from error
        if not out.exists():
            raise MethodFailed(f"{folder.name} ended the process: {done.stderr[-500:]}")
        report = Report.model_validate_json(out.read_text(encoding="utf-8"))
    console = Console()
    if as_json:
        console.print_json(json.dumps(report.model_dump()))
    else:
        _print(console, report)
    if report.violations:
        raise MethodFailed(f"{folder.name}: {len(report.violations)} violations of the contract")


def _print(console: Console, report: object) -> None:
    from aarlab.testbed.checking import Report

    assert isinstance(report, Report)
    for one in report.findings:
        colour = "red" if one.level == "violation" else "yellow"
        console.print(one.level, style=colour, end="")
        console.print(f" ({one.kind} rows): ", end="")
        console.print(f"{one.what}\n  -> {one.mend}", markup=False, highlight=False)
    if not report.violations:
        console.print(f"{report.method} keeps the contract", style="green")


@app.command()
def run(
    folder: Annotated[Path, typer.Argument(help="with method.py")],
    task: Annotated[str, typer.Option(help="a built task; see `aarlab task list`")],
    seeds: Annotated[int, typer.Option(min=1, max=16)] = 5,
    permuted: Annotated[bool, typer.Option(help="also on permuted weak labels")] = True,
    json_out: testbed.JsonOut = None,
) -> None:
    """An honest PGR of your method beside the guard baselines, with diagnostics, no agent."""
    if not (folder / "method.py").is_file():
        raise NotFound(f"{folder}: there is no method.py")
    names = f"vanilla,{folder.resolve()}"
    testbed.run(
        task,
        names,
        seeds,
        diagnostics=True,
        permuted=permuted,
        json_out=json_out,
        baseline_seeds=2,
    )


def _first_sentence(doc: str) -> str:
    """Without the number in the catalogue."""
    text = re.sub(r"\s\(\d+\)", "", " ".join(doc.split()))
    return text.split(". ")[0].rstrip(".")
