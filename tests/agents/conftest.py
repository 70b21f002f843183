"""One platform and one fake endpoint for the tests of a module; each test makes AARs of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_models import FakeModels
from fault_kit import keys_of
from fault_scripts import short_worker
from language_kit import Bench, bench

from aarlab.core.layout import DataRoot, RunDir


@pytest.fixture(scope="module")
def desk(toy_root: DataRoot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    home = Path(tmp_path_factory.mktemp("run"))
    with bench(toy_root, RunDir(home / "run"), "--task", "gauss") as made:
        yield made


@pytest.fixture(scope="module")
def endpoint() -> Iterator[FakeModels]:
    with FakeModels(short_worker) as fake:
        yield fake


@pytest.fixture
def fake(endpoint: FakeModels, monkeypatch: pytest.MonkeyPatch) -> FakeModels:
    for name, key in keys_of(endpoint).items():
        monkeypatch.setenv(name, key)
    endpoint.replan([])
    endpoint.reset()
    return endpoint
