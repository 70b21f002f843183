"""A Slurm of the tests' own, and the example package as pip would install it."""

from collections.abc import Iterator

import pytest
from extension_kit import EXAMPLES, distribution_of, installed
from slurm import Slurm

EXAMPLE = EXAMPLES / "executors"


@pytest.fixture(scope="module")
def installed_example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """See the example as an installed package, here and in child processes."""
    folder = tmp_path_factory.mktemp("installed")
    distribution_of(folder, EXAMPLE)
    places = (folder, EXAMPLE / "src")
    with pytest.MonkeyPatch.context() as patch, installed(*places):
        patch.setenv("PYTHONPATH", ":".join(map(str, places)))
        yield


@pytest.fixture(scope="module")
def slurm(installed_example: None) -> Iterator[Slurm]:
    """A cluster of one node, to which the Slurm commands of this process talk."""
    cluster = Slurm()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(cluster.conf))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.remove()
