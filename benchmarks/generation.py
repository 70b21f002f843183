"""Methods that write text, with the real embedded pair on a few rows: accuracy, time, their texts.

    python benchmarks/generation.py --tasks math --seeds 1 --out benchmarks/generation.md

A small task (the preset's settings, `--rows` train rows) is built with the strong model at hand.
Every method is compared with vanilla on the same rows, the same teachers and the same seeds; the
methods by trl run where it is installed, at a scale that two cores carry. Each method is a process
of its own and is kept in the JSON beside the table; a second call goes on where it stopped.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from aarlab.cli.operator import open_scorer
from aarlab.cli.settings import data_root
from aarlab.core.extras import installed
from aarlab.testbed.methods import METHODS, generation, grpo
from aarlab.testbed.methods.probes import asked
from aarlab.testbed.running.panel import Bench, predict, search_bench
from aarlab.testbed.students.options import GrpoOptions
from aarlab.testbed.tasks.generators.assembly import SplitRows
from aarlab.testbed.tasks.generators.chat_definitions import fetch_glossary
from aarlab.testbed.tasks.generators.registry import generate, preset
from aarlab.testbed.tasks.making import Workshop
from aarlab.testbed.tasks.options import BuildOptions
from aarlab.testbed.tasks.task import open_public

SMALL = ("vanilla", "vanilla_soft", "debate", "generative_finetuning", "critic")
BY_TRL = ("critic_grpo", "debate_grpo")
GRPO = GrpoOptions(steps=3, prompts=2, generations=4, max_new=32)
SHOWN = 3
Facts = dict[str, Any]


def main() -> None:
    given = _arguments()
    if given.one:
        task, method = given.one.split("/")
        print(json.dumps(_measured(_bench(given, task), method, given.seeds)))
        return
    found = (
        json.loads(path.read_text(encoding="utf-8")) if (path := _beside(given)).exists() else {}
    )
    methods = [*SMALL, *(BY_TRL if installed("trl") else ())]
    for task in given.tasks.split(","):
        found.setdefault(task, {"base": _base(_bench(given, task)), "methods": {}})
        for method in methods:
            if method not in found[task]["methods"]:
                found[task]["methods"][method] = _in_process(f"{task}/{method}")
                path.write_text(
                    json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
                )
                given.out.write_text(_page(given, found), encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", default="math")
    parser.add_argument("--task-seed", type=int, default=2026)
    parser.add_argument("--rows", type=int, default=60, help="of train")
    parser.add_argument("--search-rows", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/generation.md"))
    parser.add_argument("--one", help="TASK/METHOD: one measurement, as JSON")
    return parser.parse_args()


def _beside(given: argparse.Namespace) -> Path:
    out: Path = given.out
    return out.with_suffix(".json")


def _in_process(one: str) -> Facts:
    words = [sys.executable, *sys.argv, "--one", one]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, encoding="utf-8")
    made: Facts = json.loads(done.stdout.splitlines()[-1])
    print(one, {k: v for k, v in made.items() if k != "texts"}, flush=True)
    return made


def _bench(given: argparse.Namespace, name: str) -> Bench:
    """The small task, built or found as it was built."""
    root, made = data_root(), preset(name, given.task_seed)
    rows = SplitRows(400, given.rows, given.search_rows, selection=40, certify=40, train_hidden=0)
    shop = Workshop(root, lambda line: None)
    options = BuildOptions(
        pair=made.pair, weak_layer=made.weak_layer, strong_layer=made.strong_layer,
        teacher=made.teacher, student=made.student, model="smollm2-135m",
        certify=False, teacher_row_ceiling=False, require_gap=False,
    )  # fmt: skip
    glossary = fetch_glossary(root) if name == "chat" else None
    data = generate(f"{name}-few", replace(made.settings, rows=rows), glossary)
    built = shop.build(data, options)
    task = open_public(root.public_task(built.info.name))
    return search_bench(task, shop.strong_features(task), open_scorer(root))


def _base(bench: Bench) -> Facts:
    info = bench.task.info
    base = bench.judge.baselines(info.name, "search")
    return {**base.model_dump(), "n_train": info.n_train, "n_search": info.n_search}


def _measured(bench: Bench, name: str, seeds: int) -> Facts:
    """Accuracy by seed, seconds, texts of the first seed's first rows beside their rows."""
    method, texts = METHODS[name], list[str]()
    for module in (generation, grpo):
        module.relabelled = _recorded(generation.relabelled, texts)  # type: ignore[attr-defined]
    if name in BY_TRL:
        method = replace(method, fit=partial(getattr(grpo, name), options=GRPO))
    begun, task = time.monotonic(), bench.task.info.name
    predictions = predict(method, bench, seeds)
    seconds = time.monotonic() - begun
    by_seed = [
        bench.judge.accuracy(task, "search", predictions._replace(runs=[run]))
        for run in predictions.runs
    ]
    return {
        "accuracy": bench.judge.accuracy(task, "search", predictions),
        "by_seed": by_seed,
        "seconds": round(seconds, 1),
        "texts": texts[:SHOWN],
    }


def _recorded(relabelled: Callable[..., Any], texts: list[str]) -> Callable[..., Any]:
    """Keeps what the judge was given to read."""

    def recorded(task: Any, student: Any, reads: str, written: list[Any], seed: int) -> Any:
        for row in asked(student, task.inputs, reads, texts=written):
            texts.append(f"{row.prompt}\n{' / '.join(row.answers)}")
        return relabelled(task, student, reads, written, seed)

    return recorded


def _page(given: argparse.Namespace, found: Facts) -> str:
    parts = [
        f"# Methods that write text\n\n{datetime.now(UTC).date()}, {os.cpu_count()} cores "
        f"{platform.machine()}, torch {torch.__version__}, much other work on the machine; "
        f"embedded pair, tasks of seed {given.task_seed} with {given.rows} train rows, "
        f"{given.seeds} seeds. Accuracy on {given.search_rows} search rows ± half of a 95 % "
        "interval over rows [each seed]. `critic` and `debate`: 32 new tokens a text, 4 steps of "
        "8 rows with 4 critiques; "
        f"by trl: {GRPO.steps} steps, {GRPO.prompts} prompts a step, {GRPO.generations} texts a "
        f"prompt, {GRPO.max_new} new tokens, LoRA r = {GRPO.rank}, float32, not the study's 50 "
        "steps of 8 prompts. Seconds are of all seeds. Made by `benchmarks/generation.py`.\n"
    ]
    parts += [_section(name, facts) for name, facts in found.items()]
    return "\n".join(parts)


def _section(name: str, facts: Facts) -> str:
    base = facts["base"]
    lines = [
        f"## {name}\n\nWeak {base['weak']:.3f}, ceiling {base['ceiling']:.3f} "
        f"({base['weak_seeds']}, {base['ceiling_seeds']} seeds), {base['n_train']} train rows.\n",
        "| method | accuracy | s |\n|---|---|---|",
    ]
    for method, cell in facts["methods"].items():
        share = cell["accuracy"]
        half = 1.96 * (share * (1 - share) / base["n_search"]) ** 0.5
        each = ", ".join(f"{value:.3f}" for value in cell["by_seed"])
        lines.append(f"| {method} | {share:.3f} ± {half:.3f} [{each}] | {cell['seconds']:,.0f} |")
    for method, cell in facts["methods"].items():
        if cell["texts"]:
            lines += [f"\nThe first rows of `{method}`, with what its judge was given:\n"]
            lines += [f"```text\n{text}\n```" for text in cell["texts"]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
