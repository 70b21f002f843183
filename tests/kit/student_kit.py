"""A student server in a thread of the test, and clients of it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
