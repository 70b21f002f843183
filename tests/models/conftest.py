"""Fixtures: tiny random models, made once a session."""

from pathlib import Path

import pytest
from tiny_models import CONFIGS, save_tiny, tiny_entry, write_gguf

from aarlab.core.layout import DataRoot
from aarlab.testbed.models.catalogue import FolderSource
from aarlab.testbed.models.pull import pull_entry


@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("hf")
    for family in CONFIGS:
        save_tiny(family, root / family)
    return {family: root / family for family in CONFIGS}


@pytest.fixture(scope="session")
def tiny(tiny_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted tiny llama."""
    root = DataRoot(tmp_path_factory.mktemp("home"))
    return pull_entry(tiny_entry(FolderSource(tiny_folders["llama"])), root)


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path)
    return path
