"""What another style does to answers: every honest method, and cheats that go by style.

    AARLAB_HOME=... python benchmarks/style.py --out benchmarks/style.md

Selection rows of the embedded tasks of `--seed` and of any other built task, up to 100 of them with
a twin; the calls are those of the verifier, without a sandbox around them. What was computed is
kept in the JSON beside the table; a second call goes on where it stopped.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
import sys

sys.path.insert(0, str(HERE.parent / "tests" / "kit"))

import numpy as np
from rich.console import Console
from style_hacks import STYLE_HACKS
from threadpoolctl import threadpool_limits

from aarlab.cli.operator import open_scorer
from aarlab.cli.settings import data_root
from aarlab.core.errors import AarlabError
from aarlab.core.layout import DataRoot
from aarlab.testbed.methods import METHODS
from aarlab.testbed.methods.named_method import named_files
from aarlab.testbed.running.job import Job, JobOutput, SeedPair
from aarlab.testbed.running.method_folder import write_method
from aarlab.testbed.running.run_method import run_job
from aarlab.testbed.tasks.making import Workshop
from aarlab.testbed.tasks.task import load_weak_labels
from aarlab.verify.hidden import FEATURES, INPUTS, TWINS, WEAK_LABELS, hidden_files, twin_reference

FIRST_SEED = 500
Facts = dict[str, Any]


def main() -> None:
    given = _arguments()
    root, console = data_root(), Console()
    shop = Workshop(root, lambda line: console.print(f"  {line}", highlight=False))
    tasks = [
        shop.build_embedded(name, given.seed).info.name
        for name in filter(None, given.tasks.split(","))
    ] + list(filter(None, given.built.split(",")))
    found = _earlier(given.out.with_suffix(".json"))
    for task in tasks:
        found["tasks"][task] = twin_reference(root.vault_task(task)).model_dump()
        for method, files in _methods(given):
            key = f"{task}/{method}/{given.seeds}"
            if key not in found["cells"]:
                found["cells"][key] = _cell(root, task, files, given.seeds)
            console.print(key, found["cells"][key], highlight=False)
            given.out.with_suffix(".json").write_text(
                json.dumps(found, indent=1) + "\n", encoding="utf-8"
            )
    given.out.write_text(_page(found, tasks, given), encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", default="math,code,chat", help="embedded tasks")
    parser.add_argument("--built", default="", help="other tasks that are built already")
    parser.add_argument("--seed", type=int, default=2026, help="of the embedded tasks")
    parser.add_argument("--methods", default="", help="default: all that need no model at hand")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--out", type=Path, default=HERE / "style.md")
    return parser.parse_args()


def _methods(given: argparse.Namespace) -> Iterator[tuple[str, dict[str, str]]]:
    for name, source in STYLE_HACKS.items():
        yield f"cheat {name}", {"method.py": source}
    wanted = [name for name in given.methods.split(",") if name]
    for name, method in METHODS.items():
        if name in wanted or (not wanted and not method.needs_model):
            yield name, named_files(name)


def _earlier(path: Path) -> Facts:
    return (
        json.loads(path.read_text(encoding="utf-8"))
        if path.exists()
        else {"cells": {}, "tasks": {}}
    )


def _cell(root: DataRoot, task: str, files: dict[str, str], seeds: int) -> Facts:
    """PGR; mean and largest share of flips over runs."""
    begun = time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
            output = run_job(_job(root, task, files, Path(folder), seeds))
    except AarlabError as error:
        return {"failed": str(error).splitlines()[0][:100]}
    styles = [record.style for record in output.records if record.style]
    return {
        "most": max(style.flipped for style in styles),
        "mean": float(np.mean([style.flipped for style in styles])),
        "pgr": _pgr(root, task, output),
        "seconds": round(time.monotonic() - begun, 2),
    }


def _job(root: DataRoot, task: str, files: dict[str, str], folder: Path, seeds: int) -> Job:
    write_method(folder / "method", files)
    for name, body in hidden_files(root, task, "selection").items():
        (folder / name).write_bytes(body)
    teachers = load_weak_labels(folder / WEAK_LABELS).seeds
    return Job(
        method=folder / "method",
        public=root.public_task(task),
        runs=[
            SeedPair(teacher_seed=teachers[i % len(teachers)], seed=FIRST_SEED + i)
            for i in range(seeds)
        ],
        split="selection",
        eval_inputs=folder / INPUTS,
        weak_labels=folder / WEAK_LABELS,
        features=[folder / FEATURES],
        diagnostics=False,
        probe=True,
        twins=folder / TWINS,
    )


def _pgr(root: DataRoot, task: str, output: JobOutput) -> list[float] | None:
    try:
        estimate = open_scorer(root).estimate(task, "selection", output.predictions())
    except AarlabError:
        return None
    return [estimate.value, estimate.low, estimate.high]


def _page(found: Facts, tasks: list[str], given: argparse.Namespace) -> str:
    now = datetime.now(UTC).date().isoformat()
    heads = " | ".join(tasks)
    lines = [
        f"# Style\n\n{now}, {os.cpu_count()} cores {platform.machine()}; embedded tasks of seed "
        f"{given.seed}, {given.seeds} seeds with fresh weak teachers. Share of answers that are "
        "another when a row comes in another style, its content kept: mean over runs, in brackets "
        "the run where most are; then PGR on the selection split. Made by "
        "`benchmarks/style.py`.\n",
        f"| | {heads} |\n|---|{'---|' * len(tasks)}",
        _line("twins", [f"{found['tasks'][t]['rows']}" for t in tasks]),
    ]
    for reader in found["tasks"][tasks[0]]["readers"]:
        shares = [f"{found['tasks'][t]['readers'][reader]:.2f}" for t in tasks]
        lines.append(_line(f"reader: {reader}", shares))
    for method, _ in _methods(given):
        cells = [_text(found["cells"][f"{t}/{method}/{given.seeds}"]) for t in tasks]
        lines.append(_line(method, cells))
    return "\n".join(lines) + "\n"


def _line(name: str, cells: list[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def _text(cell: Facts) -> str:
    if "failed" in cell:
        return "failed"
    pgr = f"; {cell['pgr'][0]:+.2f}" if cell["pgr"] else ""
    return f"{cell['mean']:.2f} ({cell['most']:.2f}){pgr}"


if __name__ == "__main__":
    main()
