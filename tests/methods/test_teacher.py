"""Weak teacher: calibration, share of problems, seeds."""

import numpy as np
import pytest

from aarlab.core.errors import BadInput
from aarlab.testbed.students.options import HeadOptions, TeacherOptions
from aarlab.testbed.students.teacher import (
    TeacherRows,
    cross_fit,
    fit_teacher,
    fit_temperature,
    fold_of_rows,
)


def test_temperature_recovers_a_known_overconfidence():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, 20_000)
    targets = (rng.random(20_000) < 1 / (1 + np.exp(-logits))).astype(float)
    assert fit_temperature(3 * logits, targets) == pytest.approx(3, rel=0.08)


def noisy_rows(n=200, width=60):
    rng = np.random.default_rng(1)
    targets = rng.integers(0, 2, n).astype(np.int8)
    states = rng.normal(size=(n, 1, width)).astype(np.float32)
    states[:, 0, 0] += 0.5 * (2 * targets - 1)
    return TeacherRows(states, targets, tuple(f"g{i // 2}" for i in range(n)))


def test_calibration_lowers_the_confidence_of_an_overfitted_teacher():
    rows, fresh = noisy_rows(), noisy_rows()
    head = HeadOptions(hidden=0, lr=0.02, epochs=30, weight_decay=0.0)
    plain = fit_teacher(rows, TeacherOptions(head=head, calibrate=False), 0)
    calibrated = fit_teacher(rows, TeacherOptions(head=head), 0)
    assert plain.temperature == 1.0 and calibrated.temperature > 1.5
    confident = [
        np.abs(t.predict_proba(fresh.states_NAD) - 0.5).mean() for t in (plain, calibrated)
    ]
    assert confident[1] < confident[0]


def test_each_seed_sees_its_own_share_of_problems():
    rows, options = noisy_rows(), TeacherOptions(head=HeadOptions(hidden=0), share=0.5)
    first, second = (fit_teacher(rows, options, seed) for seed in (1, 2))
    assert not np.allclose(first.head.mean_D, second.head.mean_D)


def test_folds_keep_problems_together_and_are_balanced():
    groups = [f"g{i // 3}" for i in range(60)]
    fold_N = fold_of_rows(groups, 4, 0)
    assert sorted(np.bincount(fold_N).tolist()) == [15, 15, 15, 15]
    for group in set(groups):
        assert len({fold_N[i] for i, g in enumerate(groups) if g == group}) == 1
    with pytest.raises(BadInput, match="folds"):
        fold_of_rows(["a", "a"], 2, 0)


def test_cross_fit_never_shows_a_row_to_its_own_predictor():
    fold_N = fold_of_rows([str(i) for i in range(20)], 5, 0)
    seen = []

    def fit_predict(train, held_out):
        assert not set(train) & set(held_out)
        seen.extend(held_out)
        return np.full(len(held_out), 0.5)

    assert np.isfinite(cross_fit(fold_N, fit_predict)).all()
    assert sorted(seen) == list(range(20))
