"""Built-in methods give the same bits through a student server as in-process."""

from dataclasses import replace

import numpy as np
import pytest
from method_world import OPTIONS
from student_kit import SETTINGS, client_of, rows_of, served, stored_world

from aarlab.core.errors import MethodFailed
from aarlab.students.grants import Grant
from aarlab.testbed.methods import METHODS
from aarlab.testbed.running.contract import checked_predictions
from aarlab.testbed.students.features import StoredFeatures
from aarlab.testbed.students.student import StudentFactory

FEW = (
    "vanilla", "confident", "em_posterior", "es_finetuning", "reliability", "born_again",
    "truth_mean", "overlap_density", "easy_to_hard", "ccs", "vanilla_teachers", "guard_length",
)  # fmt: skip


@pytest.fixture(scope="module", params=["verification", "preference"])
def pair(request, tmp_path_factory):
    """A task, the students of this process, and those of a server."""
    folder = tmp_path_factory.mktemp("served")
    world, path = stored_world(request.param, folder)
    here = StudentFactory(StoredFeatures.open([path]), SETTINGS.layer, OPTIONS.student)
    grant = Grant.of("m", rows_of(world), SETTINGS, features=[str(path)], reads_texts=True)
    with served(folder), client_of(folder, grant) as client:
        yield world, here, client


def assert_same(pair, name):
    world, here, client = pair
    rows = world.data.splits["search"].examples[:60]
    try:
        fitted = METHODS[name].fit(world.task, replace(here), 3)
    except MethodFailed as error:
        with pytest.raises(MethodFailed, match="run it where the model is"):
            METHODS[name].fit(world.task, client.students, 3)
        assert "run it where the model is" in str(error)
        return
    expected = checked_predictions(fitted, rows)
    found = checked_predictions(METHODS[name].fit(world.task, client.students, 3), rows)
    assert np.array_equal(found, expected), name


@pytest.mark.parametrize("name", FEW)
def test_a_method_gives_the_same_bits(pair, name):
    assert_same(pair, name)


@pytest.mark.gate
@pytest.mark.parametrize("name", [name for name in METHODS if name not in FEW])
def test_every_method_gives_the_same_bits(pair, name):
    assert_same(pair, name)
