"""Processor seconds of recipes on a task of the embedded size; writes recipes.md beside it.

    OPENBLAS_NUM_THREADS=1 python benchmarks/recipes.py [--label TEXT]

Rows are synthetic: 1,703 preference rows with states of width 576 that carry a class signal, 8 weak
teachers, log-likelihoods of the answers. A figure is that of one trial: five seeds trained, the
train rows predicted. One thread, as in a campaign's sandbox; the least of several repetitions. A
label adds a column, so that two versions of the code can be compared; a label that is there keeps
the lesser figure of each row.
"""

import argparse
import json
import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from aarlab.core.types import Example
from aarlab.testbed.recipes.recipe import Recipe, recipe_from
from aarlab.testbed.recipes.run_recipe import run_recipe
from aarlab.testbed.students.features import StoredFeatures
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.students.train import expit
from aarlab.testbed.tasks.train_task import TrainTask

N, WIDTH, TEACHERS, LAYER, SEEDS, REPEATS = 1703, 576, 8, 15, 5, 2
EM, NEIGHBOURS = {"label": {"source": "em_posterior"}}, {"select": {"kind": "neighbours"}}
RECIPES = {
    "vanilla": {"train": {"targets": "hard"}},
    "3 epochs, learning rate 1e-3, decay 10": {
        "train": {"epochs": 3, "lr": 1e-3, "weight_decay": 10.0}
    },
    "linear, 20 epochs": {"train": {"hidden": 0, "epochs": 20}},
    "neighbours": NEIGHBOURS,
    "overlap density": {"select": {"kind": "overlap"}, "train": {"targets": "hard"}},
    "em_posterior": EM,
    "3 rounds of 5 folds": {"train": {"rounds": 3, "folds": 5}},
    "8 members": {"predict": {"members": 8}},
    "em_posterior, neighbours, 2 rounds of 3 folds, 4 members": {
        **EM,
        **NEIGHBOURS,
        "train": {"rounds": 2, "folds": 3},
        "predict": {"members": 4},
    },
}


def world() -> tuple[TrainTask, StudentFactory]:
    rng = np.random.default_rng(0)
    rows = tuple(
        Example(f"row {i}", f"group {i}", f"question {i}", (f"first {i}", f"second {i}"))
        for i in range(N)
    )
    truth_N = rng.integers(0, 2, N)
    side_NA = np.stack([2 * truth_N - 1, 1 - 2 * truth_N], axis=1)
    direction_D = rng.normal(size=WIDTH) / np.sqrt(WIDTH)
    states_NAD = rng.normal(size=(N, 2, WIDTH)) + 1.5 * side_NA[:, :, None] * direction_D
    leaning_N = 0.5 * side_NA[:, 0] + rng.normal(0, 1, N)
    labels_SN = expit(leaning_N + rng.normal(0, 1, (TEACHERS, N)))
    alone_NA = rng.normal(-30, 5, (N, 2))
    table = {
        "keys": np.array([key for row in rows for key in row.keys]),
        "given_prompt": (alone_NA + 0.3 * side_NA + rng.normal(size=(N, 2))).reshape(-1),
        "alone": alone_NA.reshape(-1),
        "tokens": rng.integers(8, 30, 2 * N),
        f"states_{LAYER}": states_NAD.reshape(-1, WIDTH).astype(np.float32),
    }
    groups = tuple(row.group for row in rows)
    task = TrainTask("bench", "preference", rows, labels_SN[0], groups, {"train": N}, labels_SN)
    return task, StudentFactory(StoredFeatures([table]), LAYER)


def seconds_of(recipe: Recipe, task: TrainTask, student: StudentFactory) -> float:
    taken = []
    for _ in range(REPEATS):
        started, fit = time.process_time(), run_recipe(recipe)
        for seed in range(SEEDS):
            fit(task, student, seed).predict_proba(task.inputs)
        taken.append(time.process_time() - started)
    return min(taken)


def measure() -> dict[str, float]:
    task, student = world()
    return {
        name: seconds_of(recipe_from(recipe), task, student) for name, recipe in RECIPES.items()
    }


def table(columns: dict[str, dict[str, float]]) -> str:
    lines = [
        "# Processor seconds of a trial of a recipe",
        "",
        f"{N:,} preference rows, width {WIDTH}, {TEACHERS} teachers, {SEEDS} seeds, one thread, "
        f"least of {REPEATS} or more runs. {platform.machine()}, {os.cpu_count()} cores, "
        f"{datetime.now(UTC):%Y-%m-%d}. Made by `benchmarks/recipes.py`.",
        "",
        "| recipe | " + " | ".join(columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for name in next(iter(columns.values())):
        lines.append(f"| {name} | " + " | ".join(f"{c[name]:.1f}" for c in columns.values()) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":
        raise SystemExit("set OPENBLAS_NUM_THREADS=1: the figures are those of one thread")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--label", default="seconds", help="name of this version's column")
    label = parser.parse_args().label
    path = Path(__file__).with_suffix(".json")
    columns = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known, found = columns.get(label, {}), measure()
    columns[label] = {name: min(took, known.get(name, took)) for name, took in found.items()}
    path.write_text(json.dumps(columns, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table(columns), encoding="utf-8")
    print(table(columns))


if __name__ == "__main__":
    main()
