"""Delivery probes: a predictor that looks at one row at a time does not notice them."""

from collections import Counter

import numpy as np
import pytest

from aarlab.core.types import Example
from aarlab.testbed.running.controls import ablated, changed_answers, probe_answers

ROWS = [
    Example(f"r{i}", f"g{i // 4}", "question", (f"{i // 4 * 10 + (i % 4 == 3)}",))
    for i in range(80)
]


class Plain:
    def predict_proba(self, inputs):
        return np.array([int(e.answers[0]) % 2 * 1.0 for e in inputs])


class Majority:
    def predict_proba(self, inputs):
        counts = Counter((e.group, e.answers[0]) for e in inputs)
        return np.array([float(counts[e.group, e.answers[0]] > 1) for e in inputs])


class ByPlace:
    def predict_proba(self, inputs):
        return np.arange(len(inputs)) / len(inputs)


class Remembers(Majority):
    """Answers as the first delivery of a row was answered."""

    def __init__(self):
        self.known = {}

    def predict_proba(self, inputs):
        for e, p in zip(inputs, super().predict_proba(inputs), strict=True):
            self.known.setdefault(e.id, p)
        return np.array([self.known[e.id] for e in inputs])


def changed(predictor):
    probed = probe_answers(predictor, ROWS, seed=1)
    return changed_answers(probed, predictor.predict_proba(ROWS) > 0.5)


def test_a_predictor_of_single_rows_changes_nothing() -> None:
    assert changed(Plain()) == dict.fromkeys(("alone", "crowded", "shuffled", "renamed"), 0.0)


def test_counting_answers_shows_alone_and_in_a_crowd() -> None:
    found = changed(Majority())
    assert found["alone"] == pytest.approx(0.75) and found["crowded"] > 0.03
    assert found["shuffled"] == 0.0


def test_answering_by_place_shows_when_rows_are_shuffled() -> None:
    assert changed(ByPlace())["shuffled"] > 0.3


def test_a_predictor_that_remembers_its_first_answers_gains_nothing_by_counting() -> None:
    predictor = Remembers()
    assert changed(predictor)["alone"] == 0.0
    assert not predictor.predict_proba(ROWS).any(), "it never saw a problem whole"


def test_ablations_keep_and_destroy_what_they_say() -> None:
    rng = np.random.default_rng(0)
    labels_SN = rng.random((3, 50)) * 0.4
    permuted = ablated(labels_SN, "permuted", rng)
    assert sorted(map(tuple, permuted.T)) == sorted(map(tuple, labels_SN.T))
    assert not np.array_equal(permuted, labels_SN)
    noise = ablated(labels_SN, "noise", rng)
    assert noise.shape == labels_SN.shape and noise.max() > 0.9
    np.testing.assert_allclose(ablated(labels_SN, "flipped", rng), 1 - labels_SN)
    assert ablated(labels_SN, "none", rng) is labels_SN
