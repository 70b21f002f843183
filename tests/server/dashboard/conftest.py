"""The seeded campaign, copied for each module, and a real server on it."""

import shutil

import pytest
from platform_kit import TinyTask, platform
from seeded import TASKS

from aarlab.core.layout import RunDir

NAMED = [word for task in TASKS for word in ("--task", task)]


@pytest.fixture(scope="module")
def served(seeded: tuple[TinyTask, RunDir], tmp_path_factory: pytest.TempPathFactory):
    """Each module may write to its own copy."""
    task, run = seeded
    folder = tmp_path_factory.mktemp("dash")
    shutil.copytree(run.path, folder / "run")
    with platform(task, RunDir(folder / "run"), *NAMED) as running:
        yield running
