"""Every built-in method keeps the contract, or says clearly what it lacks."""

from dataclasses import replace

import numpy as np
import pytest
from method_world import World

from aarlab.core.errors import MethodFailed
from aarlab.testbed.methods import FAMILIES, METHODS
from aarlab.testbed.running.contract import checked_predictions
from aarlab.testbed.students.features import StoredFeatures, feature_arrays

KINDS = ("preference", "verification")


@pytest.fixture(scope="module")
def worlds():
    """Tasks whose features are stored, without a model behind them."""
    made = {}
    for kind in KINDS:
        world = World(kind)
        rows = [e for split in ("train", "search") for e in world.data.splits[split].examples]
        world.source = StoredFeatures([feature_arrays(world.source, rows, [1, 2, 3])])
        made[kind] = world
    return made


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_each_method_predicts_row_by_row_and_the_same_again(worlds, kind, name):
    world, rows = worlds[kind], worlds[kind].data.splits["search"].examples[:40]
    try:
        predictor = METHODS[name].fit(world.task, world.factory(), 3)
    except MethodFailed as error:
        assert METHODS[name].needs_model, error
        assert "run it where the model is" in str(error)
        return
    probs_N = checked_predictions(predictor, rows)
    again = METHODS[name].fit(world.task, world.factory(), 3)
    assert (checked_predictions(again, rows) == probs_N).all()
    if name != "guard_majority":  # it is about the other answers of the problem
        alone = checked_predictions(predictor, rows[7:8])
        assert alone == pytest.approx(probs_N[7:8], abs=1e-5)


def test_every_method_has_a_family_and_says_where_it_comes_from():
    assert sum(map(len, FAMILIES.values())) == len(METHODS) >= 45
    for method in METHODS.values():
        assert len(method.doc) > 60, method.name


def test_methods_learn_what_is_there(worlds):
    """On Gaussian states the truth is linear: from noisy labels these should find it."""
    world = worlds["verification"]
    wrong_N = np.random.default_rng(0).random((3, len(world.truth_N))) < 0.2
    labels_SN = np.where(wrong_N == world.truth_N, 0.3, 0.7)
    task = replace(world.task, weak_labels_N=labels_SN[0], teacher_labels_SN=labels_SN)
    for name in ("linear_probe", "truth_mean", "overlap_density", "epiplexity", "reliability"):
        predictor = METHODS[name].fit(task, world.factory(), 0)
        assert world.accuracy(predictor) > 0.68, name
