"""The ladder moves in clear steps only, and what it shows between steps holds no label."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aarlab.problems.base import GRID, Z
from aarlab.problems.weak_to_strong.scoring import climb, on_grid

N = 400
answers_N = arrays(np.bool_, N)


def _correct(answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return (answers == labels).astype(float)


def test_the_first_submission_is_always_shown() -> None:
    assert climb(np.zeros(N), None) == (True, GRID)


@given(labels=answers_N, best=answers_N, new=answers_N)
@settings(max_examples=100, deadline=None)
def test_the_best_changes_exactly_when_beaten_by_the_step(labels, best, new) -> None:
    difference_N = _correct(new, labels) - _correct(best, labels)
    step = max(Z * difference_N.std() / math.sqrt(N), GRID)
    rung = climb(_correct(new, labels), _correct(best, labels))
    gain = difference_N.mean()
    if abs(gain - step) > 1e-6:
        assert rung.improved == (gain > step)
    assert rung.improved or rung.step_bound >= step


@given(labels=answers_N, other=answers_N, best=answers_N, new=answers_N)
@settings(max_examples=100, deadline=None)
def test_without_improvement_the_rung_is_the_same_for_any_labels(labels, other, best, new) -> None:
    rungs = [climb(_correct(new, truth), _correct(best, truth)) for truth in (labels, other)]
    if not any(rung.improved for rung in rungs):
        assert math.isclose(rungs[0].step_bound, rungs[1].step_bound)


@given(labels=answers_N, best=answers_N, flips=st.sets(st.integers(0, N - 1), max_size=3))
@settings(max_examples=100, deadline=None)
def test_a_few_flipped_rows_never_move_the_best(labels, best, flips) -> None:
    new = best.copy()
    new[list(flips)] ^= True
    assert climb(_correct(new, labels), _correct(best, labels)) == (False, GRID)


def test_many_random_vectors_gain_next_to_nothing() -> None:
    """Average the vectors that moved the best: exact scores would gain far more than noise."""
    rng = np.random.default_rng(0)
    n = 1000
    labels = rng.integers(0, 2, n)
    best, moved = None, 0
    for _ in range(500):
        vector = rng.integers(0, 2, n)
        rung = climb(_correct(vector, labels), best)
        if rung.improved:
            best, moved = _correct(vector, labels), moved + 1
    assert moved <= 4 and best is not None and best.mean() < 0.58


@given(st.floats(0, 1))
def test_the_grid(accuracy: float) -> None:
    shown = on_grid(accuracy)
    assert abs(shown - accuracy) <= GRID / 2 + 1e-9
    assert math.isclose(shown * 100, round(shown * 100), abs_tol=1e-9)
