"""A Slurm and a Ray of the tests' own."""

from collections.abc import Iterator

import pytest
from extension_kit import EXAMPLES, distribution_of, installed
from ray_cluster import RayCluster
from slurm import Slurm


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """A cluster of one node, to which the Slurm commands of this process talk."""
    cluster = Slurm()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(cluster.conf))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.remove()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    """Three nodes, of which a test may lose some."""
    made = Slurm(nodes=3)
    monkeypatch.setenv("SLURM_CONF", str(made.conf))
    try:
        made.start()
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def ray_package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """See the Ray example as an installed package, here and in child processes."""
    folder, example = tmp_path_factory.mktemp("installed"), EXAMPLES / "ray"
    distribution_of(folder, example)
    places = (folder, example / "src")
    with pytest.MonkeyPatch.context() as patch, installed(*places):
        patch.setenv("PYTHONPATH", ":".join(map(str, places)))
        yield


@pytest.fixture(scope="module")
def ray_cluster(ray_package: None, request: pytest.FixtureRequest) -> Iterator[RayCluster]:
    """A Ray with RAY_NODES nodes of the module, one by default, that this process finds."""
    cluster = RayCluster(getattr(request.module, "RAY_NODES", 1))
    with pytest.MonkeyPatch.context() as patch:
        try:
            cluster.start()
            patch.setenv("RAY_ADDRESS", cluster.address)
            yield cluster
        finally:
            cluster.remove()
