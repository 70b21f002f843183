"""One platform for the tests of this folder; each test makes AARs of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from language_kit import Bench, bench

from aarlab.core.layout import DataRoot, RunDir


@pytest.fixture(scope="module")
def desk(toy_root: DataRoot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    home = Path(tmp_path_factory.mktemp("run"))
    with bench(toy_root, RunDir(home / "run"), "--task", "gauss") as made:
        yield made
