"""One platform process for the tests that leave it as they found it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from platform_kit import Running, TinyTask, platform, write_task

from aarlab.core.layout import DataRoot, RunDir


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyTask:
    """Development task `tiny`; `held` is in the same vault and no AAR may learn of it."""
    root = tmp_path_factory.mktemp("data")
    write_task(root, "held", seed=5)
    return write_task(root, "tiny")


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str | None:
    """URL of a fresh PostgreSQL database, or None for the run's SQLite file."""
    if request.param == "sqlite":
        return None
    return request.getfixturevalue("postgres").fresh()


@pytest.fixture(scope="session")
def running(tiny: TinyTask, database: str | None, tmp_path_factory: pytest.TempPathFactory):
    run = RunDir(tmp_path_factory.mktemp("run"))
    with platform(tiny, run, "--task", "tiny", database=database) as started:
        yield started
    assert started.process.returncode == 0
    assert started.log_text() == "", "the platform logged a crash"


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "run")


@pytest.fixture
def aar(running: Running, request: pytest.FixtureRequest):
    """A fresh AAR with no limits."""
    name = f"aar-{abs(hash(request.node.nodeid)):x}"[:40]
    with running.aar(name) as client:
        yield client


@pytest.fixture(scope="session")
def gauss(toy_root: DataRoot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server on a task with real rows and weak labels; no campaign around it."""
    task = TinyTask(toy_root, "gauss", {})
    with platform(task, RunDir(tmp_path_factory.mktemp("gauss")), "--task", "gauss") as running:
        yield running
    assert running.process.returncode == 0
    assert running.log_text() == "", "the platform logged a crash"
