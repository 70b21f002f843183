"""Fixtures that several folders of tests share."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from platform_kit import TinyTask
from postgres import Postgres
from seeded import make_seeded
from toy_campaign import build_toy, toy_spec

from aarlab.campaign.processes import Child, wait_for_server
from aarlab.campaign.runner import create, run_campaign
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import CampaignExport
from aarlab.sandbox import workspace


def pytest_configure() -> None:
    """Sandboxes of two test processes have different uids: their processes are counted by uid."""
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        apart = 500 + 100 * int(worker.removeprefix("gw"))
        workspace.FIRST_UID += apart
        workspace.LAST_UID += apart


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    return build_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def toy_run(
    toy_root: DataRoot, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunDir, CampaignExport]:
    """One campaign run to its end; tests must not change it."""
    run = RunDir(Path(tmp_path_factory.mktemp("run")) / "toy")
    create(run, toy_spec(), {"why": "test"})
    return run, run_campaign(run, toy_root, lambda kind, facts: None)


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
def s3() -> Iterator[str]:
    """A bucket on moto's S3 server; the variables that lead there are set."""
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("aarlab")
        yield "s3://aarlab"
    server.stop()


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> tuple[TinyTask, RunDir]:
    """A campaign with transcripts and two cheats: copy it before a server writes to it."""
    return make_seeded(tmp_path_factory.mktemp("seeded"))
