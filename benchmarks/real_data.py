"""Every real data set of a folder through the embedded pair: import, run methods, write a table.

    python benchmarks/real_data.py --data ../shared/data --out benchmarks/real_data.md

The smallest set comes first. `--train-rows` and `--test-rows` take the first rows of each file
only, for a shorter run; the table says so.

A set whose ceiling is not clearly above its weak teacher has no PGR: the table then says so and
gives the accuracies. Features are computed once and cached under AARLAB_HOME.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.console import Console
from threadpoolctl import threadpool_limits

from aarlab.cli.operator import open_scorer
from aarlab.cli.settings import data_root
from aarlab.core.errors import AarlabError, GapNotPositive
from aarlab.core.layout import DataRoot
from aarlab.testbed.making import Workshop
from aarlab.testbed.panel import Bench, PanelRow, methods_named, predict, run_panel, search_bench
from aarlab.testbed.task import open_public

METHODS = ["vanilla", "vanilla_soft", "confident", "aux_confidence", "zero_shot", "em_posterior"]
METHODS += ["self_training"]
HEAD = "| method | PGR | 95 % interval | accuracy | s |\n|---|---|---|---|---|\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/real_data.md"))
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--only", default="", help="names, comma-separated")
    parser.add_argument("--train-rows", type=int, default=0, help="of each train file; 0: all")
    parser.add_argument("--test-rows", type=int, default=0, help="of the test file; 0: all")
    given = parser.parse_args()
    console = Console()
    folders = sorted((p.parent for p in given.data.glob("*/train_label.jsonl")), key=_size)
    rows = {"train_label": given.train_rows, "train_unlabel": given.train_rows}
    rows["test"] = given.test_rows
    wanted = set(filter(None, given.only.split(",")))
    parts, results = [_title(given.seeds, rows)], {}
    for folder in folders:
        if wanted and folder.name not in wanted:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            text, facts = _one(_shortened(folder, Path(scratch), rows), given.seeds, console)
        console.print(text)
        parts.append(text)
        results[folder.name] = facts
        given.out.write_text("\n".join(parts))
        given.out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.jsonl"))


def _shortened(folder: Path, scratch: Path, rows: dict[str, int]) -> Path:
    """The set with the first `rows` of each file, under its own name."""
    copy = scratch / folder.name
    copy.mkdir()
    for name, most in rows.items():
        lines = (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        text = "".join(lines[: most or None])
        (copy / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return copy


def _title(seeds: int, rows: dict[str, int]) -> str:
    cut = ", ".join(f"{name} {most}" for name, most in rows.items() if most)
    cut = f" At most so many rows of a file: {cut}." if cut else ""
    now = datetime.now(UTC).date().isoformat()
    return (
        f"# Real data, embedded pair\n\n{now}, {os.cpu_count()} cores {platform.machine()}, torch "
        f"{torch.__version__}; {seeds} transfer seeds, 16 weak and 16 ceiling seeds, search split, "
        "head with 64 hidden units on frozen states. Made by `benchmarks/real_data.py`. "
        f"Negative results included.{cut}\n"
    )


def _one(folder: Path, seeds: int, console: Console) -> tuple[str, dict[str, object]]:
    root, begun = data_root(), time.monotonic()
    name = f"real-{folder.name}".replace("_", "-")
    shop = Workshop(root, lambda line: console.print(f"  {line}"))
    built = shop.import_folder(folder, name, "embedded", require_gap=False)
    prepared = time.monotonic() - begun
    base = open_scorer(root).baselines(name, "search")
    text = (
        f"## {folder.name}\n\n{built.info.kind}; train {built.info.n_train}, search {base.n_rows} "
        f"rows; weak {base.weak:.3f}, ceiling {base.ceiling:.3f}; prepared in {prepared:.0f} s.\n\n"
    )
    facts: dict[str, object] = {"baselines": base.model_dump(), "prepared_s": prepared}
    try:
        rows = _panel(root, name, seeds)
    except GapNotPositive as error:
        accuracy = _accuracies(root, name, seeds)
        table = "".join(f"| {method} | {value:.3f} |\n" for method, value in accuracy.items())
        text += f"No PGR: {error}\n\n| method | accuracy |\n|---|---|\n{table}"
        return text, {**facts, "no_pgr": str(error), "accuracy": accuracy}
    lines = [_line(row) for row in rows]
    return text + HEAD + "\n".join(lines) + "\n", {**facts, "methods": [_fact(r) for r in rows]}


def _bench(root: DataRoot, name: str) -> Bench:
    task = open_public(root.public_task(name))
    features = Workshop(root, lambda line: None).strong_features(task)
    return search_bench(task, features, open_scorer(root))


def _accuracies(root: DataRoot, name: str, seeds: int) -> dict[str, float]:
    """Mean accuracy on search over seeds and rows; a method that cannot run is left out."""
    bench, found = _bench(root, name), {}
    for method in methods_named(METHODS, guards=True):
        try:
            with threadpool_limits(1):
                predictions = predict(method, bench, seeds)
            found[method.name] = bench.judge.accuracy(name, "search", predictions)
        except AarlabError as error:
            Console(stderr=True).print(f"{name} {method.name}: {error}")
    return found


def _panel(root: DataRoot, name: str, seeds: int) -> list[PanelRow]:
    bench, rows = _bench(root, name), []
    for method in methods_named(METHODS, guards=True):
        try:
            rows += run_panel([method], bench, seeds)
        except GapNotPositive:
            raise
        except AarlabError as error:
            Console(stderr=True).print(f"{name} {method.name}: {error}")
    return rows


def _line(row: PanelRow) -> str:
    name = f"{row.method} (guard)" if row.guard else row.method
    interval = f"[{row.pgr.low:+.2f}, {row.pgr.high:+.2f}]"
    return (
        f"| {name} | {row.pgr.value:+.2f} | {interval} | {row.transfer:.3f} | {row.seconds:.1f} |"
    )


def _fact(row: PanelRow) -> dict[str, object]:
    return {"method": row.method, "pgr": row.pgr.model_dump(), "accuracy": row.transfer}


if __name__ == "__main__":
    main()
