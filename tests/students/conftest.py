"""Fixtures: a tiny random model, converted once a session."""

from pathlib import Path

import pytest
from tiny_models import save_tiny, tiny_entry

from aarlab.core.layout import DataRoot
from aarlab.testbed.models.catalogue import FolderSource
from aarlab.testbed.models.pull import pull_entry


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hf")
    save_tiny("llama", folder)
    return pull_entry(tiny_entry(FolderSource(folder)), DataRoot(tmp_path_factory.mktemp("home")))
