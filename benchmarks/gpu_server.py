"""The part of `gpu.py` that asks a student server: one client, nine clients, float32, memory.

A model of random weights is written as a Hugging Face folder, converted as any model is, and served
by `python -m aarlab.students` in a process of its own. Every character of a row's text is a token,
so its length is exact. A client trains one LoRA student of the published options for one epoch.
"""

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "kit"))

from student_kit import server_process
from tiny_models import tiny_tokenizer
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from aarlab.core.layout import DataRoot
from aarlab.core.types import Example
from aarlab.students.client import Client
from aarlab.students.grants import Grant, Operator
from aarlab.testbed.models.answers import student_items
from aarlab.testbed.models.catalogue import add_own
from aarlab.testbed.models.pull import pull
from aarlab.testbed.students.options import published_adapter
from aarlab.testbed.tasks.train_task import StudentSettings

Facts = dict[str, Any]
N_CLIENTS, JUDGED, MODEL = 9, 64, "random"
SINGLE = "~^|@#$%&"  # no two of these are one token


@dataclass(frozen=True, slots=True)
class Served:
    """What is measured: rows by their lengths in tokens, in batches of `batch`."""

    config: Facts
    lengths: Sequence[int]
    batch: int
    steps: int
    warm_up: int
    train_tokens: int
    scratch: Path

    @property
    def device(self) -> str:
        return "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def home(self) -> Path:
        return self.scratch / "home"


def figures(case: Served) -> Facts:
    """Return tokens a second of one and of nine clients, memory, and the distance to float32."""
    _write_model(case)
    rows = _rows(case)
    with _serving(case, "auto") as process:
        one = _clients(case, process, rows, 1)
        many = _clients(case, process, rows, N_CLIENTS)
        served = _log_odds(case, rows)
    with _serving(case, "float32"):
        exact = _log_odds(case, rows)
    return {"one": one, "many": many, "float32": _distance(served, exact)}


def _write_model(case: Served) -> None:
    torch.manual_seed(0)
    config = Qwen3Config(**case.config)
    model = Qwen3ForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(case.scratch / "hf")
    del model
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer(), bos_token="<s>")
    tokenizer.save_pretrained(case.scratch / "hf")
    source = {"folder": str(case.scratch / "hf"), "context": 8192}
    add_own(DataRoot(case.home), "models", MODEL, source)
    pull(MODEL, DataRoot(case.home))


def _rows(case: Served) -> list[Example]:
    """Return rows whose question, as it is put to a student, has the wanted number of tokens."""
    rng, tokenizer = np.random.default_rng(0), tiny_tokenizer()
    adapter, n = published_adapter()[0], case.batch * (case.warm_up + case.steps)
    (bare,) = student_items([Example("", "", "", (" ok",))], adapter)
    around = len(tokenizer.encode(bare.prompt).ids)
    rows = []
    for number in range(max(n, JUDGED)):
        length = max(1, case.lengths[number % len(case.lengths)] - around)
        text = "".join(rng.choice(list(SINGLE), length))
        rows.append(Example(f"r{number}", f"g{number}", text, (" ok",)))
    return rows


def _tokens(rows: Sequence[Example]) -> int:
    tokenizer, items = tiny_tokenizer(), student_items(rows, published_adapter()[0])
    return sum(len(tokenizer.encode(item.prompt).ids) for item in items)


def _serving(case: Served, dtype: str) -> AbstractContextManager[psutil.Process]:
    more = {
        "AARLAB_HOME": str(case.home),
        "AARLAB_DEVICE_LOCKS": str(case.scratch / "k"),
        "AARLAB_DTYPE": dtype,
        "AARLAB_TRAIN_TOKENS": str(case.train_tokens),
    }
    return server_process(case.scratch / "s" / "s", MODEL, case.device, more)


def _client(case: Served, name: str, rows: Sequence[Example]) -> Client:
    adapter, options = published_adapter()
    settings = StudentSettings(case.config["num_hidden_layers"], options, adapter)
    with Operator(case.scratch / "s" / "s", case.scratch / "k") as operator:
        token = operator.admit(Grant.of(name, rows, settings, MODEL))
    return Client.open(case.scratch / "s" / "s", token)


def _targets(n: int) -> np.ndarray:
    return np.arange(n) % 2.0


def _clients(case: Served, process: psutil.Process, rows: Sequence[Example], n: int) -> Facts:
    """Have some clients train at once; return their tokens a second together, and shares."""
    options = published_adapter()[1].model_copy(update={"epochs": 1})
    first, last = case.warm_up * case.batch, (case.warm_up + case.steps) * case.batch
    clients = [_client(case, f"c{n}-{i}", rows) for i in range(n)]
    begin, ends = threading.Barrier(n + 1), [0.0] * n
    students = [client.students.new(options) for client in clients]

    def work(at: int) -> None:
        client, student = clients[at], students[at]
        student.fit(client.rows[:first], _targets(first))
        begin.wait()
        student.fit(client.rows[first:last], _targets(last - first))
        ends[at] = time.perf_counter()

    threads = [threading.Thread(target=work, args=(at,)) for at in range(n)]
    for thread in threads:
        thread.start()
    with _watched(process) as peak:
        begin.wait()
        begun = time.perf_counter()
        for thread in threads:
            thread.join()
    held = [client.usage()["device_s"] for client in clients]
    for client in clients:
        client.close()
    seconds, tokens = max(ends) - begun, n * _tokens(rows[first:last])
    return {
        "clients": n,
        "seconds": seconds,
        "tokens": tokens,
        "tokens_per_s": tokens / seconds,
        "first_ended": (min(ends) - begun) / seconds,
        "device_s_least_of_most": min(held) / max(held),
        "peak_gb": peak[0],
    }


@contextmanager
def _watched(process: psutil.Process) -> Iterator[list[float]]:
    """Yield the most memory in GB: of the device in all, or of the server's process on a CPU."""
    peak, over = [0.0], threading.Event()

    def look() -> None:
        while not over.wait(0.2):
            if torch.cuda.is_available():
                free, total = torch.cuda.mem_get_info()
                now = (total - free) / 1e9
            else:
                now = process.memory_full_info().pss / 1e9
            peak[0] = max(peak[0], now)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def _log_odds(case: Served, rows: Sequence[Example]) -> np.ndarray:
    """Return the log-odds of some rows by a student of two batches, one epoch, one seed."""
    options = published_adapter()[1].model_copy(update={"epochs": 1, "lr": 1e-3})
    with _client(case, "judged", rows) as client:
        n = min(2 * case.batch, len(rows))
        student = client.students.new(options).fit(client.rows[:n], _targets(n))
        probs = student.predict_proba(client.rows[:JUDGED])
    return np.log(probs / (1 - probs))


def _distance(served: np.ndarray, exact: np.ndarray) -> Facts:
    return {
        "rows": len(exact),
        "correlation": float(np.corrcoef(served, exact)[0, 1]),
        "mean_difference": float(np.abs(served - exact).mean()),
        "spread": float(exact.std()),
        "same_answer": float(((served > 0) == (exact > 0)).mean()),
    }


def page(found: Facts) -> list[str]:
    """Return the lines of the report."""
    one, many, exact = found["one"], found["many"], found["float32"]
    lines = [
        "",
        "## By a student server",
        "",
        "| clients | tokens/s together | share of one client's | seconds | first to end | "
        "device seconds, least of most | peak memory GB |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in (one, many):
        share = each["tokens_per_s"] / one["tokens_per_s"]
        lines.append(
            f"| {each['clients']} | {each['tokens_per_s']:,.0f} | {share:.2f} | "
            f"{each['seconds']:.1f} | {each['first_ended']:.0%} | "
            f"{each['device_s_least_of_most']:.2f} | {each['peak_gb']:.2f} |"
        )
    lines += [
        "",
        f"Against a server in float32 on the same device: log-odds of {exact['rows']} rows by a "
        f"student of two batches, correlation {exact['correlation']:.4f}, mean difference "
        f"{exact['mean_difference']:.4f} (standard deviation {exact['spread']:.4f}), the same "
        f"answer on {exact['same_answer']:.0%}.",
    ]
    return lines
