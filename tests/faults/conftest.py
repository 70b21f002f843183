import pytest
from platform_kit import TinyTask, write_task


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyTask:
    return write_task(tmp_path_factory.mktemp("data"), "tiny")
