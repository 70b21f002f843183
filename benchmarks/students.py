"""What a student server costs: a fit and a call against in-process, and memory for nine clients.

    python benchmarks/students.py --out benchmarks/students.md          # a minute on two cores

Fits: heads with the default options on random stored states of the embedded student's width, in
this process and by a server in a process of its own, in pairs that take turns. The share is the
median of the pairs' ratios; on a busy machine the share of CPU time says more. Memory: a server of
a random language model of the embedded student's shape, before and after nine clients have trained
a LoRA student each.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "kit"))

from student_kit import server_process
from tiny_models import tiny_tokenizer
from tiny_task import word_rows
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from aarlab.core.layout import DataRoot
from aarlab.core.types import Example
from aarlab.students.client import Client
from aarlab.students.grants import Grant, Operator
from aarlab.testbed.models.catalogue import add_own
from aarlab.testbed.students.features import StoredFeatures
from aarlab.testbed.students.options import AdapterOptions, HeadOptions
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.tasks.task import write_arrays
from aarlab.testbed.tasks.train_task import StudentSettings

WIDTH, LAYER, ROWS, N_CLIENTS, PAIRS, CALLS = 576, 20, 1500, 9, 25, 300
SHAPE = {
    "hidden_size": WIDTH, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 2048,
    "vocab_size": 49152, "tie_word_embeddings": True,
}  # fmt: skip


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--out", type=Path, required=True)
    out: Path = given.parse_args().out
    with tempfile.TemporaryDirectory() as scratch, threadpool_limits(1):
        found = {**fits(Path(scratch)), **memory(Path(scratch))}
    found["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    found["date"] = f"{datetime.now(UTC):%Y-%m-%d}"
    out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    out.write_text(page(found), encoding="utf-8")
    print(page(found))


def serving(place: Path, *models: str) -> AbstractContextManager[psutil.Process]:
    """A server process of some models of the data root `place / "home"`."""
    more = {"AARLAB_HOME": str(place / "home"), "AARLAB_DEVICE_LOCKS": str(place / "locks")}
    return server_process(place / "s", ",".join(models), "cpu", more)


def opened(place: Path, grant: Grant) -> Client:
    with Operator(place / "s", place / "locks") as operator:
        token = operator.admit(grant)
    return Client.open(place / "s", token)


def fits(place: Path) -> dict[str, float]:
    rng, path = np.random.default_rng(0), place / "features.npz"
    rows = [Example(f"r{i}", f"g{i}", f"question {i}", (f" answer {i}",)) for i in range(ROWS)]
    states = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    keys = np.array([row.keys[0] for row in rows])
    write_arrays(path, {"keys": keys, f"states_{LAYER}": states})
    targets, options = rng.random(ROWS), HeadOptions()
    here = StudentFactory(StoredFeatures.open([path]), LAYER, options)
    grant = Grant.of("a", rows, StudentSettings(LAYER, options, None), features=[str(path)])
    with serving(place) as process, opened(place, grant) as client:
        there = client.students

        def mine_once() -> object:
            return here.new().fit(rows, targets).predict_proba(rows)

        def served_once() -> object:
            return there.new().fit(client.rows, targets).predict_proba(client.rows)

        for work in (mine_once, served_once) * 2:
            work()
        pairs, cpu_here_s, cpu_served_s = [], 0.0, -sum(process.cpu_times()[:2])
        for _ in range(PAIRS):
            started = time.process_time()
            took_s = seconds(mine_once)
            between = time.process_time()
            pairs.append((took_s, seconds(served_once)))
            cpu_here_s += between - started
            cpu_served_s += time.process_time() - between
        cpu_served_s += sum(process.cpu_times()[:2])
        student, mine = there.new().fit(client.rows, targets), here.new().fit(rows, targets)
        shares = np.quantile([b / a - 1 for a, b in pairs], (0.25, 0.5, 0.75)).tolist()
        some, few = client.rows[:100], client.rows[:1]
        return {
            "fit_here_ms": 1000 * statistics.median(a for a, _ in pairs),
            "fit_served_ms": 1000 * statistics.median(b for _, b in pairs),
            "cpu_here_ms": 1000 * cpu_here_s / PAIRS,
            "cpu_served_ms": 1000 * cpu_served_s / PAIRS,
            "overhead_low": shares[0],
            "overhead": shares[1],
            "overhead_high": shares[2],
            "usage_ms": per_call(client.usage),
            "predict_1_ms": per_call(lambda: student.predict_proba(few)),
            "predict_100_ms": per_call(lambda: student.predict_proba(some)),
            "predict_100_here_ms": per_call(lambda: mine.predict_proba(rows[:100])),
            "states_100_ms": per_call(lambda: there.states(some)),
            "states_100_here_ms": per_call(lambda: here.states(rows[:100])),
        }


def memory(place: Path) -> dict[str, float]:
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE)).to(torch.bfloat16)
    model.save_pretrained(place / "hf")
    weights_mb = sum(p.numel() * 2 for p in model.parameters()) / 1e6
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer(), bos_token="<s>")
    tokenizer.save_pretrained(place / "hf")
    del model
    add_own(DataRoot(place / "home"), "models", "r", {"folder": str(place / "hf"), "context": 256})
    rows, targets = word_rows(8, "train")
    adapter = AdapterOptions(kind="top_blocks", blocks=1)
    options = HeadOptions(hidden=0, epochs=1)
    settings = StudentSettings(30, options, adapter)
    with serving(place, "r") as process:
        before, clients, students = pss_mb(process), list[Client](), []
        after = [before]
        for number in range(N_CLIENTS):
            client = opened(place, Grant.of(f"c{number}", rows, settings, "r"))
            students.append(client.students.new().fit(client.rows, targets))
            clients.append(client)
            after.append(pss_mb(process))
        for client in clients:
            client.close()
    return {
        "weights_mb": weights_mb, "server_mb": before, "with_1_mb": after[1],
        "with_9_mb": after[-1],
    }  # fmt: skip


def pss_mb(process: psutil.Process) -> float:
    return process.memory_full_info().pss / 1e6


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def per_call(work: Callable[[], object]) -> float:
    """Median milliseconds of a call."""
    return 1000 * statistics.median(seconds(work) for _ in range(CALLS))


def page(found: dict[str, Any]) -> str:
    ms = {name: f"{value:.2f}" for name, value in found.items() if name.endswith("_ms")}
    mb = {name: f"{value:.0f}" for name, value in found.items() if name.endswith("_mb")}
    return f"""# What a student server costs

Made by `python benchmarks/students.py --out benchmarks/students.md` on {found["date"]}
({found["machine"]}; the machine was shared).

A fit and a prediction of a head on {ROWS} stored states of width {WIDTH}, medians of {PAIRS}
pairs in turn: {ms["fit_here_ms"]} ms in-process, {ms["fit_served_ms"]} ms by a server,
**{found["overhead"]:+.1%}** (half of the pairs from {found["overhead_low"]:+.1%} to
{found["overhead_high"]:+.1%}). In CPU time of both processes: {ms["cpu_here_ms"]} ms and
{ms["cpu_served_ms"]} ms, **{found["cpu_served_ms"] / found["cpu_here_ms"] - 1:+.1%}**.

| call, median of {CALLS} | ms by a server | ms in-process |
|---|---|---|
| `usage()` | {ms["usage_ms"]} | |
| `predict_proba` of 1 row | {ms["predict_1_ms"]} | |
| `predict_proba` of 100 rows | {ms["predict_100_ms"]} | {ms["predict_100_here_ms"]} |
| `states` of 100 rows | {ms["states_100_ms"]} | {ms["states_100_here_ms"]} |

Memory (proportional set size) of a server of a random 135M model with {mb["weights_mb"]} MB of
bf16 weights: {mb["server_mb"]} MB at first, {mb["with_1_mb"]} MB with one client that has trained
a LoRA student on the upper block, **{mb["with_9_mb"]} MB with nine**. There is one copy of the
weights.
"""


if __name__ == "__main__":
    main()
