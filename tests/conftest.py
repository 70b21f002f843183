"""Fixtures that several folders of tests share."""

import gc
import os
import pickle
import shutil
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path

import forked
import fsspec
import hypothesis
import pytest
from platform_kit import TinyTask
from postgres import Postgres
from seeded import make_seeded
from seeded_server import seeded_argv
from sharing import shared_folder
from swift_store import SwiftStore
from toy_campaign import build_toy, toy_spec

from aarlab.campaign import runner
from aarlab.campaign.processes import Child, wait_for_server
from aarlab.campaign.runner import create, run_campaign
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import CampaignExport
from aarlab.executors.local import LocalExecutor
from aarlab.report.load import load_export
from aarlab.sandbox import workspace

LEAST_SHOWN_S = 1.0
FIRST = ("tests/verify/", "tests/students/")
"""Folders with the longest files. Begun last, each would keep one process at work alone."""


def pytest_configure() -> None:
    """Set up what must differ between test processes, and what must not between test runs.

    Sandboxes of two test processes have different uids: their processes are counted by uid.
    """
    hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
    if "HYPOTHESIS_PROFILE" not in os.environ:
        hypothesis.settings.load_profile("repeatable")
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        apart = 500 + 100 * int(worker.removeprefix("gw"))
        workspace.FIRST_UID += apart


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector away from a million objects of modules, which stay to the end.

    Tests import more of them: it comes less often than by default.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first. Skip tests that need a card where torch finds none."""
    items.sort(key=lambda item: not item.nodeid.startswith(FIRST))
    asked = [item for item in items if item.get_closest_marker("gpu")]
    if asked:
        import torch

        if not torch.cuda.is_available():
            for item in asked:
                item.add_marker(pytest.mark.skip(reason="torch finds no CUDA device"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the time of each file of tests, slowest first: fixtures count where they are made."""
    seconds: Counter[str] = Counter()
    for report in (r for found in terminalreporter.stats.values() for r in found):
        if isinstance(report, pytest.TestReport):
            seconds[report.nodeid.split("::")[0]] += report.duration
    terminalreporter.section("seconds by file")
    for file, spent in seconds.most_common():
        if spent >= LEAST_SHOWN_S:
            terminalreporter.write_line(f"{spent:8.1f}  {file}")
    terminalreporter.write_line(f"{seconds.total():8.1f}  {len(seconds)} files in all")


@pytest.fixture(scope="session", autouse=True)
def campaigns_in_tests() -> Iterator[None]:
    """Campaigns that a test runs in its own process have fixed verification seeds.

    Their servers and verifiers are forked.
    """
    plain = runner.server_argv
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            runner, "server_argv", lambda *given, **named: seeded_argv(plain(*given, **named))
        )
        patch.setattr(LocalExecutor, "start", forked.start_job)
        yield


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    return DataRoot(shared_folder(tmp_path_factory, "toy", build_toy))


@pytest.fixture(scope="session")
def toy_run(
    toy_root: DataRoot, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunDir, CampaignExport]:
    """One campaign run to its end, a copy for each test process; tests must not change it."""

    def build(folder: Path) -> None:
        run = RunDir(folder / "toy")
        create(run, toy_spec(), {"why": "test"})
        run_campaign(run, toy_root, lambda kind, facts: None)

    run = RunDir(tmp_path_factory.mktemp("run") / "toy")
    shutil.copytree(
        shared_folder(tmp_path_factory, "run", build) / "toy",
        run.path,
        ignore=shutil.ignore_patterns("socket", "*.lock"),
    )
    return run, load_export(run.export)


@pytest.fixture
def served(toy_root: DataRoot, toy_run: tuple[RunDir, CampaignExport]) -> Iterator[None]:
    """The server of the finished toy campaign, up for one test."""
    run, _ = toy_run
    argv = [sys.executable, "-m", "aarlab.server", "--run", str(run.path)]
    argv += ["--root", str(toy_root.path), "--task", "gauss"]
    server = Child("server", argv, run.path / "server.log")
    server.start()
    try:
        wait_for_server(server, run.socket)
        yield
    finally:
        server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for the session; tests take databases of their own from it."""
    server = Postgres()
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bucket of a real store that speaks S3; the variables that lead there are set."""
    store = SwiftStore(tmp_path_factory.mktemp("swift"))
    store.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.variables.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("aarlab")
        yield "s3://aarlab"
    store.stop()


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> tuple[TinyTask, RunDir]:
    """A campaign with transcripts and two cheats: copy it before a server writes to it."""

    def build(folder: Path) -> None:
        (folder / "made.pickle").write_bytes(pickle.dumps(make_seeded(folder)))

    return pickle.loads(
        (shared_folder(tmp_path_factory, "seeded", build) / "made.pickle").read_bytes()
    )
