"""A Slurm of the tests' own."""

from collections.abc import Iterator

import pytest
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
