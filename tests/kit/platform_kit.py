"""A tiny task on disk and a real platform process on a unix socket."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from forked import Forked
from seeded_server import seeded_argv

from aarlab.client.operator import OperatorClient
from aarlab.client.platform import PlatformClient
from aarlab.client.transport import Address, health
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import Limits, NewAar, Run, Submission, TaskInfo
from aarlab.store.place import Place

CANARY = "canary-7f3a"
SPLITS = ("search", "selection", "certify")


@dataclass(frozen=True)
class TinyTask:
    """Hidden labels are here for the test to judge with; the platform reads them from files."""

    data: DataRoot
    name: str
    labels: dict[str, dict[str, int]]

    def ids(self, split: str = "search") -> list[str]:
        return list(self.labels[split])

    def probs(self, split: str, accuracy: float, seed: int) -> list[float]:
        rng = np.random.default_rng(seed)
        labels = np.array(list(self.labels[split].values()))
        right = rng.permutation(len(labels)) < round(accuracy * len(labels))
        confidence = rng.uniform(0.55, 0.95, len(labels))
        return np.where((labels == 1) == right, confidence, 1 - confidence).tolist()


def write_task(root: Path, name: str = "tiny", n: int = 240, seed: int = 0) -> TinyTask:
    data, rng = DataRoot(root), np.random.default_rng(seed)
    old = os.umask(0o077)
    try:
        labels = _write_vault(data, name, n, rng)
    finally:
        os.umask(old)
    _write_public(data, name, labels["search"])
    return TinyTask(data, name, labels)


def _write_vault(data: DataRoot, name: str, n: int, rng) -> dict[str, dict[str, int]]:
    folder = data.vault_task(name)
    for part in ("truth", "inputs"):
        (folder / part).mkdir(parents=True)
    labels, arrays = {}, {}
    for split in SPLITS:
        ids = [f"{split[:3]}{i:04d}" for i in range(n)]
        truth_N = rng.integers(0, 2, n)
        labels[split] = dict(zip(ids, truth_N.tolist(), strict=True))
        lines = [{"id": i, "label": label} for i, label in labels[split].items()]
        _lines(folder / "truth" / f"{split}.jsonl", [{"canary": CANARY}, *lines])
        if split != "search":
            _lines(folder / "inputs" / f"{split}.jsonl", _inputs(ids))
        arrays[f"ids_{split}"] = np.array(ids[::-1])
        arrays[f"weak_{split}"] = _baseline(truth_N[::-1], 0.6, rng)
        arrays[f"ceiling_{split}"] = _baseline(truth_N[::-1], 0.9, rng)
    np.savez(folder / "baselines.npz", **arrays)
    return labels


def _baseline(truth_N, accuracy: float, rng, seeds: int = 5):
    right_SN = rng.random((seeds, len(truth_N))) < accuracy
    return np.where((truth_N == 1) == right_SN, 0.8, 0.2)


def _inputs(ids: list[str]) -> list[dict]:
    return [
        {"id": i, "group": f"g{number // 2}", "prompt": "p", "answers": ["a"]}
        for number, i in enumerate(ids)
    ]


def _lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write_public(data: DataRoot, name: str, search: dict[str, int]) -> None:
    folder = data.public_task(name)
    (folder / "inputs").mkdir(parents=True)
    _lines(folder / "inputs" / "search.jsonl", _inputs(list(search)))
    info = TaskInfo(
        name=name,
        kind="verification",
        title=name,
        description="toy",
        pair="toy",
        n_train=0,
        n_search=len(search),
        teacher_seeds=[0],
        settings={"seed": 1},
        content_hash="0" * 64,
    )
    (folder / "task.json").write_text(info.model_dump_json())


@dataclass
class Running:
    """A platform process and how to talk to it."""

    task: TinyTask
    run: RunDir
    process: subprocess.Popen | Forked
    database: str | None = None

    @property
    def place(self) -> Place:
        """Where `verify_log` finds the log."""
        return self.database or self.run.database

    @property
    def address(self) -> Address:
        return Address(self.run.socket)

    @property
    def operator_token(self) -> str:
        return (self.run.tokens / "operator").read_text().strip()

    def operator(self) -> OperatorClient:
        return OperatorClient(self.address, self.operator_token, deadline_s=20)

    def token(self, name: str, **limits) -> str:
        aar = NewAar(name=name, researcher="scripted", direction="d", limits=Limits(**limits))
        with self.operator() as operator:
            return operator.register(aar).token

    def aar(self, name: str, **limits) -> PlatformClient:
        return self.with_token(self.token(name, **limits))

    def with_token(self, token: str) -> PlatformClient:
        return PlatformClient(self.address, token, deadline_s=20)

    def submission(self, accuracy: float, seed: int = 0, method: str = "m") -> Submission:
        probs = self.task.probs("search", accuracy, seed)
        return Submission(
            task=self.task.name, method=method, ids=self.task.ids(), runs=[Run(seed=0, probs=probs)]
        )

    def log_text(self) -> str:
        return (self.run.path / "server.log").read_text()


def start(task: TinyTask, run: RunDir, *options: str, database: str | None = None) -> Running:
    argv, variables = _given(task, run, options, database)
    process = Forked("aarlab.server.__main__", argv, variables, run.path / "server.log")
    running = Running(task, run, process, database)
    health(running.address, deadline_s=120)  # a busy machine
    return running


def spawn(
    task: TinyTask, run: RunDir, *options: str, database: str | None = None
) -> subprocess.Popen:
    argv, variables = _given(task, run, options, database)
    # A test that fails before it stops its server must not leave it behind.
    server = seeded_argv([sys.executable, "-m", "aarlab.server"])
    command = ["setpriv", "--pdeathsig", "KILL", "--", *server, *argv]
    with (run.path / "server.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=variables)


def _given(
    task: TinyTask, run: RunDir, options: tuple[str, ...], database: str | None
) -> tuple[list[str], dict[str, str]]:
    run.path.mkdir(parents=True, exist_ok=True)
    variables = dict(os.environ)
    if database is not None:
        variables["AARLAB_SERVER_DATABASE"] = database
    return ["--run", str(run.path), "--root", str(task.data.path), *options], variables


def stop(process: subprocess.Popen | Forked) -> int:
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


@contextmanager
def platform(task: TinyTask, run: RunDir, *options: str, database: str | None = None):
    running = start(task, run, *options, database=database)
    try:
        yield running
    finally:
        stop(running.process)


def wait_for(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
