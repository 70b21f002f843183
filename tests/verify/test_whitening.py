"""States of a verified run are whitened before they are turned: no spread tells an axis."""

import numpy as np
import pytest

from aarlab.verify.judge import AXES, ROWS_PER_AXIS, secret_basis, whitening


def cloud(seed: int, count: int = 2000) -> np.ndarray:
    """Skewed along each of 16 axes, each with a spread of its own."""
    skewed = np.random.default_rng(seed).exponential(size=(count, 16))
    return (skewed * np.geomspace(8, 1, 16) + 5).astype(np.float32)


def laid_over(states: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The states in the axes of a known cloud: axes by spread, their signs by skewness."""

    def axes(points: np.ndarray) -> np.ndarray:
        found = np.linalg.svd(points, full_matrices=False)[2]
        return found * np.sign(((points @ found.T) ** 3).mean(axis=0))[:, None]

    known, states = known - known.mean(axis=0), states - states.mean(axis=0)
    return states @ axes(states).T @ axes(known)


def agreement(states: np.ndarray, shipped: np.ndarray, own: np.ndarray) -> float:
    """How often shipped weights say of states what they say of them in their own basis."""
    centred = own - own.mean(axis=0)
    return float(((laid_over(states, cloud(1)) @ shipped > 0) == (centred @ shipped > 0)).mean())


def test_variances_are_equal_and_their_sum_is_kept() -> None:
    states = cloud(2)
    centre, white = whitening(states)
    given = (states - centre) @ white
    assert white.shape == (16, 16)
    spread = np.cov(given.T, bias=True)
    assert spread == pytest.approx(np.eye(16) * states.var(axis=0).sum() / 16, rel=1e-3, abs=1e-2)


def test_a_known_cloud_finds_turned_states_and_not_whitened_ones() -> None:
    states, turn = cloud(2), secret_basis(16, np.random.default_rng(3))
    shipped = np.random.default_rng(4).normal(size=16)
    centre, white = whitening(states)
    assert agreement(states @ turn, shipped, states) > 0.85, "turning alone hides nothing"
    assert agreement((states - centre) @ white @ turn, shipped, states) < 0.7


def test_noisy_axes_and_axes_without_spread_are_left_out() -> None:
    rng = np.random.default_rng(5)
    many = rng.normal(size=(4000, AXES + 50)).astype(np.float32)
    assert whitening(many)[1].shape == (AXES + 50, AXES)
    assert whitening(many[:200])[1].shape[1] == 200 // ROWS_PER_AXIS
    flat = np.ones((400, 6), np.float32)
    flat[:, :2] = rng.normal(size=(400, 2))
    assert whitening(flat)[1].shape == (6, 2)
