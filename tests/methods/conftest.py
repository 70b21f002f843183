from pathlib import Path

import pytest
from gaussian_task import BLIND, make_task
from method_world import OPTIONS, World

from aarlab.core.layout import DataRoot
from aarlab.testbed.students.baselines import Sources
from aarlab.testbed.tasks.build import build_task


@pytest.fixture(scope="session", params=["verification", "preference"])
def world(request):
    return World(request.param)


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """A built verification task; tests must not change it."""
    root = tmp_path_factory.mktemp("data")
    data, source = make_task()
    build_task(data, OPTIONS, DataRoot(root), Sources(source, source))
    return root


@pytest.fixture(scope="session")
def flat(tmp_path_factory) -> Path:
    """A task whose strong model sees nothing: the gap is not clear."""
    root = tmp_path_factory.mktemp("flat")
    data, source = make_task()
    options = OPTIONS.model_copy(update={"strong_layer": BLIND, "require_gap": False})
    build_task(data, options, DataRoot(root), Sources(source, source))
    return root
