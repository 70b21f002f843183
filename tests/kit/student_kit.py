"""A student server in a thread of the test or in a process, and clients of it."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
from gaussian_task import STRONG
from method_world import OPTIONS, World

from aarlab.students.client import Client
from aarlab.students.grants import Grant, Operator
from aarlab.students.server import Serving, StudentServer
from aarlab.testbed.students.features import feature_arrays
from aarlab.testbed.tasks.task import write_arrays
from aarlab.testbed.tasks.train_task import StudentSettings

SETTINGS = StudentSettings(STRONG, OPTIONS.student, None)


@contextmanager
def server_process(
    socket: Path, models: str, device: str, env: Mapping[str, str]
) -> Iterator[psutil.Process]:
    """Yield a server that runs in a process of its own, once it serves."""
    words = [sys.executable, "-m", "aarlab.students", "--socket", str(socket)]
    words += ["--models", models, "--device", device]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, env=os.environ | dict(env), encoding="utf-8"
    )
    assert process.stdout is not None
    while "serving students" not in (line := process.stdout.readline()):
        assert line, "the server ended"
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@contextmanager
def served(folder: Path, models=None, **more) -> Iterator[StudentServer]:
    """A started server at `folder / "s"`, whose locks are its own."""
    server = StudentServer(Serving(folder / "s", folder / "locks", **more), models or {})
    server.start()
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(30)
        assert not thread.is_alive()


def stored_world(kind: str, folder: Path, layers=(1, 2, 3)) -> tuple[World, Path]:
    """A Gaussian task, and the file of its train and search rows' features."""
    world, path = World(kind), folder / f"{kind}.npz"
    rows = [e for split in ("train", "search") for e in world.data.splits[split].examples]
    write_arrays(path, feature_arrays(world.source, rows, list(layers)))
    return world, path


def rows_of(world: World) -> tuple:
    return (*world.data.splits["train"].examples, *world.data.splits["search"].examples)


def admitted(folder: Path, grant: Grant) -> str:
    with Operator(folder / "s", folder / "locks") as operator:
        return operator.admit(grant)


@contextmanager
def client_of(folder: Path, grant: Grant) -> Iterator[Client]:
    with Client.open(folder / "s", admitted(folder, grant)) as client:
        yield client
