"""Labels of several teachers reach a method in step with its own, ablated alike."""

import numpy as np
import pytest
from gaussian_task import GaussianSource, make_task

from aarlab.core.errors import BadInput, NotFound
from aarlab.testbed.students.features import StoredFeatures, WithModel, feature_arrays
from aarlab.testbed.tasks.task import WeakLabels

LABELS = WeakLabels(("a", "b"), (3, 4, 5), np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], "f4"))


def test_the_own_teacher_comes_first_and_the_others_in_turn():
    led_SN = LABELS.led_by(4)
    assert np.allclose(led_SN, [[0.3, 0.4], [0.5, 0.6], [0.1, 0.2]])
    assert (led_SN[0] == LABELS.of_seed(4)).all()
    with pytest.raises(NotFound, match="teacher seed 9"):
        LABELS.led_by(9)


def test_what_is_stored_comes_from_disk_and_the_rest_from_the_model():
    data, source = make_task()
    known, new = data.splits["train"].examples[:4], data.splits["search"].examples[:3]
    stored = StoredFeatures([feature_arrays(source, known, [1])])
    asked = []

    class Spy(GaussianSource):
        def states(self, examples, layer):
            asked.append((len(examples), layer))
            return source.states(examples, layer)

    both = WithModel(stored, Spy())
    assert (both.states(known, 1) == source.states(known, 1)).all() and asked == []
    assert (both.states(known, 2) == source.states(known, 2)).all()
    assert (both.states(new, 1) == source.states(new, 1)).all()
    assert asked == [(4, 2), (3, 1)]
    assert both.layers(known) == (1, 2, 3)
    with pytest.raises(NotFound):
        stored.states(new, 1)
    with pytest.raises(BadInput):
        stored.states(known, 2)
