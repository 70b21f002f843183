"""How a probe trial grows with rows and with seeds: seconds and peak memory.

    python benchmarks/scaling.py --out benchmarks/scaling.md

Random states of the embedded width (576) are written to a real feature cache; each measurement is a
process of its own that opens the cache, gathers the states, trains the default head (20 epochs) for
each seed and predicts 1,000 rows.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from aarlab.core.types import Example
from aarlab.testbed.models.answers import AnswerItem
from aarlab.testbed.models.cache import FeatureCache, ModelId, item_key
from aarlab.testbed.models.shards import NewShard, write_shard
from aarlab.testbed.students.options import HeadOptions
from aarlab.testbed.students.student import StudentFactory

WIDTH, LAYER, KEY, TEST_ROWS, SHARD = 576, 21, "0" * 64, 1000, 1024
ROWS, SEEDS = (500, 2000, 8000, 20000, 50000), (1, 2, 4, 8, 16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/scaling.md"))
    parser.add_argument("--one", nargs=3, metavar=("CACHE", "ROWS", "SEEDS"))
    given = parser.parse_args()
    if given.one:
        print(json.dumps(_measure(Path(given.one[0]), int(given.one[1]), int(given.one[2]))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        _fill(Path(scratch), max(ROWS) + TEST_ROWS)
        cases = [(n, 1) for n in ROWS] + [(2000, s) for s in SEEDS]
        found = [_in_process(scratch, n, s) for n, s in cases]
    given.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    head = "| rows | seeds | open and gather s | train s | per row and seed ms | peak MB |\n"
    lines = [
        f"# Scaling of a probe trial\n\n{datetime.now(UTC).date()}, {os.cpu_count()} cores "
        f"{platform.machine()}; width {WIDTH}, 64 hidden units, 20 epochs, one thread, a process "
        f"each. Made by `benchmarks/scaling.py`.\n\n{head}|---|---|---|---|---|---|"
    ]
    for one in found:
        each = 1000 * one["train_s"] / one["rows"] / one["seeds"]
        lines.append(
            f"| {one['rows']:,} | {one['seeds']} | {one['gather_s']:.2f} | {one['train_s']:.2f} | "
            f"{each:.3f} | {one['peak_mb']:.0f} |"
        )
    given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def _examples(n: int) -> list[Example]:
    return [Example(str(i), str(i // 4), f"question {i}", (f"answer {i}",)) for i in range(n)]


def _fill(folder: Path, n: int) -> None:
    rng, examples = np.random.default_rng(0), _examples(n)
    for start in range(0, n, SHARD):
        part = examples[start : start + SHARD]
        keys = [item_key(AnswerItem(e.prompt, e.answers[0])) for e in part]
        states = rng.normal(size=(len(part), WIDTH)).astype(np.float32)
        write_shard(folder, NewShard("random", KEY, keys, {f"state_{LAYER}": states}))


def _in_process(cache: str, rows: int, seeds: int) -> dict[str, Any]:
    words = [sys.executable, __file__, "--one", cache, str(rows), str(seeds)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, encoding="utf-8")
    made: dict[str, Any] = json.loads(done.stdout)
    print(made, flush=True)
    return made


def _measure(folder: Path, rows: int, seeds: int) -> dict[str, Any]:
    examples = _examples(rows + TEST_ROWS)
    train, test = examples[:rows], examples[rows:]
    begun = time.perf_counter()
    source = FeatureCache([folder], ModelId("random", KEY))
    states = source.states(train, LAYER)
    gathered = time.perf_counter() - begun
    targets = 1 / (1 + np.exp(-states[:, 0, 0].astype(np.float64)))
    del states
    options = HeadOptions(hidden=64, epochs=20, lr=1e-3, weight_decay=1.0)
    factory = StudentFactory(source, LAYER, options)
    begun = time.perf_counter()
    with threadpool_limits(1):
        for seed in range(seeds):
            seeded = options.model_copy(update={"seed": seed})
            factory.new(seeded).fit(train, targets).predict_proba(test)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rows": rows, "seeds": seeds, "gather_s": gathered,
            "train_s": time.perf_counter() - begun, "peak_mb": peak_mb}  # fmt: skip


if __name__ == "__main__":
    main()
