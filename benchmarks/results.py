"""Every method on every task: the results table.

    python benchmarks/results.py --data ../shared/data --out benchmarks/results.md
    python benchmarks/results.py --statements --data ../shared/data --out benchmarks/statements.md

Embedded tasks are made from `--seed`, so that anyone can repeat the table; real data sets come
from the folders under `--data` and are judged on nine tenths of their test rows. A set whose
ceiling is not clearly above its weak teacher has no PGR: its column shows accuracies in brackets.
Label-free diagnostics of every cell, means over seeds, stand in tables of their own.

With `--statements` the tasks are short statements, shipped and public, and each has two columns:
the search split, with public train rows and teachers, and "hidden", the selection split with
hidden train rows and fresh teachers, as a verified run has them (in the stored basis). The ten
methods that are best on hidden rows of the first task are run there with permuted labels too.
What was computed is kept in the JSON beside the table; a second call continues from there.
"""

import argparse
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from aarlab.cli.operator import open_scorer
from aarlab.cli.settings import data_root
from aarlab.core.errors import AarlabError
from aarlab.core.layout import ROWS, DataRoot
from aarlab.testbed.methods import FAMILIES, METHODS, Method, method_of_recipe
from aarlab.testbed.recipes.recipe import recipe_from
from aarlab.testbed.running.panel import Bench, Extras, run_panel, search_bench
from aarlab.testbed.students.features import FeatureSource, StoredFeatures
from aarlab.testbed.tasks.build import Built
from aarlab.testbed.tasks.making import Workshop
from aarlab.testbed.tasks.settings_file import read_task_settings
from aarlab.testbed.tasks.task import open_public
from aarlab.verify.hidden import held_for

SETTINGS = ("splits={search: 0.9, selection: 0.05, certify: 0.05}", "train_hidden=false")
STATEMENTS = (
    "teacher={layer: 3, share: 0.5}",
    "student={layer: 15, more_layers: [0, 12]}",
    "log_likelihoods=none",
)
PUBLIC = {"persona": 1.5, "wellbeing": 1.0, "ai-risk": 1.5}  # and the noise of their teachers
RESTRAINED = {"epochs": 3, "lr": 1e-3, "weight_decay": 10.0}
RECIPES = {
    "restrained": {"train": RESTRAINED},
    "teachers": {"label": {"source": "teachers"}},
    "teachers_restrained": {"label": {"source": "teachers"}, "train": RESTRAINED},
    "teachers_overlap": {"label": {"source": "teachers"}, "select": {"kind": "overlap"}},
    "teachers_overlap_restrained": {
        "label": {"source": "teachers"},
        "select": {"kind": "overlap"},
        "train": RESTRAINED,
    },
}
BEST = 10  # methods that are run with permuted labels
Facts = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A task of the table."""

    name: str
    bench: Bench
    has_pgr: bool


def main() -> None:
    given = _arguments()
    root, console = data_root(), Console()
    shop = Workshop(root, lambda line: console.print(f"  {line}", highlight=False))
    found = _earlier(given.out.with_suffix(".json"))
    columns = [c for built in _tasks(given, shop) for c in _columns(root, shop, built, given)]
    for method in _methods(given):
        for column in columns:
            key = _key(column, method.name, given.seeds)
            if key not in found["cells"]:
                found["cells"][key] = _cell(method, column, given.seeds)
            console.print(f"{method.name:28} {column.name:16} {_text(found['cells'][key])}")
        found |= {"columns": {c.name: _base(c) for c in columns}, "seeds": given.seeds}
        _write(given.out, columns, found)
    if given.statements:
        _with_permuted(columns, _methods(given), found)
        _write(given.out, columns, found)


def _write(out: Path, columns: list[Column], found: Facts) -> None:
    out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    out.write_text(_page(columns, found), encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", default="math,code,chat", help="embedded tasks")
    parser.add_argument("--seed", type=int, default=2026, help="of the embedded tasks")
    parser.add_argument("--data", type=Path, help="folder of real data sets")
    parser.add_argument("--sets", default="", help="names of real sets; default all")
    parser.add_argument("--pair", default="embedded", help="for the real sets")
    parser.add_argument("--statements", action="store_true", help="the tasks of short statements")
    parser.add_argument("--methods", default="", help="default: all that need no model at hand")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results.md"))
    return parser.parse_args()


def _methods(given: argparse.Namespace) -> list[Method]:
    wanted = [name for name in given.methods.split(",") if name]
    if wanted:
        known = {**METHODS, **{method.name: method for method in _recipes()}}
        return [known[name] for name in wanted]
    known = [method for method in METHODS.values() if not method.needs_model]
    return (_recipes() if given.statements else []) + known


def _recipes() -> list[Method]:
    return [method_of_recipe(name, recipe_from(value)) for name, value in RECIPES.items()]


def _earlier(path: Path) -> Facts:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"cells": {}}


def _tasks(given: argparse.Namespace, shop: Workshop) -> Iterator[Built]:
    if given.statements:
        for name in ROWS:
            yield shop.build_embedded(name, given.seed)
        for name, noise in PUBLIC.items() if given.data else ():
            changes = [*STATEMENTS, f"teacher.noise={noise}", f"splits.seed={given.seed}"]
            settings = read_task_settings(given.data / name, changes)
            yield shop.build_folder(given.data / name, name, settings)
        return
    for name in filter(None, given.tasks.split(",")):
        yield shop.build_embedded(name, given.seed)
    wanted = set(filter(None, given.sets.split(",")))
    folders = sorted(given.data.glob("*/train_label.jsonl")) if given.data else []
    for folder in (path.parent for path in folders):
        if not wanted or folder.name in wanted:
            name = f"real-{folder.name}".replace("_", "-")
            settings = read_task_settings(folder, [f"pair={given.pair}", *SETTINGS])
            yield shop.build_folder(folder, name, settings)


def _columns(
    root: DataRoot, shop: Workshop, built: Built, given: argparse.Namespace
) -> Iterator[Column]:
    task, judge = open_public(root.public_task(built.info.name)), open_scorer(root)
    name = task.info.name
    features: FeatureSource = shop.strong_features(task)
    if given.statements:  # no model: these tasks have no log-likelihoods
        features = StoredFeatures.open(sorted((task.folder / "features").glob("*.npz")))
    bench = search_bench(task, features, judge)
    yield Column(name, bench, has_pgr=judge.gap(name, "search").clear)
    if given.statements:
        held, _ = held_for(root, name, "selection", "plain")
        hidden = Bench(
            replace(task, train=held.train),
            "selection",
            held.rows,
            held.labels,
            held.features,
            judge,
        )
        yield Column(f"{name}, hidden", hidden, has_pgr=judge.gap(name, "selection").clear)


def _cell(method: Method, column: Column, seeds: int, permuted: bool = False) -> Facts:
    """PGR with its interval where there is one, accuracy, seconds; or the reason of a failure."""
    extras = Extras(diagnostics=not permuted, permuted=permuted)
    try:
        (row,) = run_panel([method], column.bench, seeds, extras=extras)
    except AarlabError as error:
        return {"failed": str(error)}
    if row.failed:
        return {"failed": row.failed}
    facts: Facts = {"seconds": round(row.seconds, 2), "accuracy": row.transfer}
    facts["diagnostics"] = {k: round(v, 3) for k, v in row.diagnostics.items()}
    if row.pgr is not None:
        facts["pgr"] = row.pgr.model_dump()
    if row.permuted is not None:
        facts["permuted"] = row.permuted.model_dump()
    return facts


def _with_permuted(columns: list[Column], methods: list[Method], found: Facts) -> None:
    """Run the best methods on hidden rows of the first task with permuted labels too."""
    column = columns[1]

    def score(method: Method) -> float:
        cell = _find(method.name, column, found) or {}
        return cell["pgr"]["value"] if "pgr" in cell else -9.0

    for method in sorted(methods, key=score, reverse=True)[:BEST]:
        key = _key(column, method.name, found["seeds"])
        if "permuted" not in found["cells"][key]:
            more = _cell(method, column, found["seeds"], permuted=True)
            found["cells"][key]["permuted"] = more["permuted"]


def _permuted(columns: list[Column], found: Facts) -> str:
    """The table of the best methods with permuted weak labels."""
    if len(columns) < 2:
        return ""
    column = columns[1]
    cells = {name: _find(name, column, found) for name in _names(found)}
    rows = {n: c for n, c in cells.items() if c and "permuted" in c}
    ranked = sorted(rows.items(), key=lambda item: -item[1]["pgr"]["value"])
    lines = [
        f"## With permuted weak labels: {column.name}\n",
        "| method | PGR | with permuted labels |",
        "|---|---|---|",
    ]
    for name, cell in ranked:
        lines.append(f"| {name} | {_text(cell)} | {_text({'pgr': cell['permuted']})} |")
    return "\n".join(lines) + "\n" if ranked else ""


def _names(found: Facts) -> list[str]:
    return list(dict.fromkeys(key.split("/")[-2] for key in found["cells"]))


def _base(column: Column) -> Facts:
    info = column.bench.task.info
    base = column.bench.judge.baselines(info.name, column.bench.split)
    student = info.settings.get("student", {})
    return {**base.model_dump(), "n_train": info.n_train, "pair": info.pair, "student": student}


def _text(cell: Facts) -> str:
    if "failed" in cell:
        return "failed"
    if "pgr" not in cell:
        return f"({cell['accuracy']:.3f})"
    pgr = cell["pgr"]
    return f"{pgr['value']:+.2f} [{pgr['low']:+.2f}, {pgr['high']:+.2f}]"


def _page(columns: list[Column], found: Facts) -> str:
    now = datetime.now(UTC).date().isoformat()
    parts = [
        f"# Results\n\n{now}, {os.cpu_count()} cores {platform.machine()}, torch "
        f"{torch.__version__}; {found['seeds']} transfer seeds, `probe` adaptation; search split "
        "unless a column says hidden. "
        "PGR [95 % interval over rows, transfer seeds and both baselines]; an accuracy in "
        "brackets where the ceiling is not clearly above the weak teacher, so that there is no "
        "PGR. Made by `benchmarks/results.py`; every method that ran is listed.\n",
        _baselines(columns, found),
        _guard_line(columns, found),
    ]
    parts += [_family(title, methods, columns, found) for title, methods in FAMILIES.items()]
    parts.append(_family("recipes", tuple(_recipes()), columns, found))
    parts.append(_permuted(columns, found))
    parts += [_diagnostics(column, found) for column in columns]
    return "\n".join(part for part in parts if part)


def _baselines(columns: list[Column], found: Facts) -> str:
    head = "| task | pair | train rows | search rows | weak | ceiling | seeds |\n"
    lines = ["## Tasks\n\n" + head + "|---|---|---|---|---|---|---|"]
    for name, base in found["columns"].items():
        lines.append(
            f"| {name} | {base['pair']} | {base['n_train']} | {base['n_rows']} | "
            f"{base['weak']:.3f} | {base['ceiling']:.3f} | {base['weak_seeds']} weak, "
            f"{base['ceiling_seeds']} ceiling |"
        )
    return "\n".join(lines) + "\n"


def _guard_line(columns: list[Column], found: Facts) -> str:
    best = ", ".join(f"{c.name} {value:+.2f}" for c in columns if (value := _guard(c, found)))
    return f"A method marked * lies above the best guard of its task by its point: {best}.\n"


def _guard(column: Column, found: Facts) -> float | None:
    """The best guard baseline's PGR on a task."""
    cells = [_find(m.name, column, found) for m in FAMILIES["guard baselines"]]
    values = [cell["pgr"]["value"] for cell in cells if cell and "pgr" in cell]
    return max(values, default=None)


def _key(column: Column, method: str, seeds: int) -> str:
    split = "" if column.bench.split == "search" else "/hidden"
    return f"{column.bench.task.info.content_hash}{split}/{method}/{seeds}"


def _find(method: str, column: Column, found: Facts) -> Facts | None:
    key = _key(column, method, found["seeds"])
    cell: Facts | None = found["cells"].get(key)
    return cell


def _family(title: str, methods: tuple[Method, ...], columns: list[Column], found: Facts) -> str:
    names = " | ".join(column.name for column in columns)
    lines = [
        f"## {title.capitalize()}\n\n| method | {names} | s |",
        "|---|" + "---|" * len(columns),
    ]
    lines[-1] += "---|"
    for method in methods:
        cells = [_find(method.name, column, found) for column in columns]
        if any(cells):
            texts = [
                _marked(cell, _guard(c, found)) for cell, c in zip(cells, columns, strict=True)
            ]
            seconds = sum(cell.get("seconds", 0) for cell in cells if cell)
            lines.append(f"| {method.name} | {' | '.join(texts)} | {seconds:.0f} |")
    return "\n".join(lines) + "\n" if len(lines) > 1 else ""


def _diagnostics(column: Column, found: Facts) -> str:
    """Figures that need no label, a row a method; nothing is ranked by them."""
    cells = {name: _find(name, column, found) for name in METHODS}
    known = {name: cell["diagnostics"] for name, cell in cells.items() if _has_them(cell)}
    names = list(next(iter(known.values()), {}))
    if not names:
        return ""
    heads = " | ".join(name.replace("_", " ") for name in names)
    lines = [
        f"## Without labels: {column.name}\n\n| method | {heads} |",
        "|---|" + "---|" * len(names),
    ]
    for method, facts in known.items():
        lines.append(f"| {method} | {' | '.join(f'{facts[name]:.2f}' for name in names)} |")
    return "\n".join(lines) + "\n"


def _has_them(cell: Facts | None) -> bool:
    return cell is not None and "diagnostics" in cell


def _marked(cell: Facts | None, guard: float | None) -> str:
    if cell is None:
        return ""
    above = guard is not None and "pgr" in cell and cell["pgr"]["value"] > guard
    return _text(cell) + (" *" if above else "")


if __name__ == "__main__":
    main()
