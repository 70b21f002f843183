"""States of a verified run are whitened before they are turned, log-likelihoods are rounded."""

from collections.abc import Sequence

import numpy as np
import pytest

from aarlab.core.types import Example
from aarlab.verify import basis
from aarlab.verify.basis import (
    AXES,
    ROWS_PER_AXIS,
    TIES,
    Table,
    rounded,
    secret_basis,
    whitening,
)


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


def logp(seed: int, answers: int, count: int = 900) -> np.ndarray:
    """Log-likelihoods (N, A, 3): given the prompt, alone, tokens."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(5, 60, size=(count, answers))
    alone = -3.0 * tokens + rng.normal(0, 9, size=(count, answers))
    pmi = rng.normal(4, 6, size=(count, answers))
    return np.stack([alone + pmi, alone, tokens], axis=-1).astype(np.float32)


def test_rounded_log_likelihoods_have_few_levels_and_keep_their_side() -> None:
    exact = logp(6, 1)
    train = np.arange(600)
    found = rounded(exact, train, np.random.default_rng(7))[:, 0]
    given, alone, tokens = found.T.astype(float)
    was = exact[:, 0, 0].astype(float) - exact[:, 0, 1]
    mean, spread = was[train].mean(), was[train].std()
    steps = (given - alone - mean) / spread
    levels = np.floor(steps) + 0.5
    assert np.abs(steps - levels).max() < TIES, "half a step beside the mean, less the noise"
    assert (levels == np.floor((was - mean) / spread) + 0.5).all()
    assert ((steps > 0) == (was > mean)).all(), "each value keeps its side of the mean"
    assert len(set(levels)) <= 8 and len(set(tokens)) <= 2 and (tokens >= 1).all()
    told = (alone - exact[train, 0, 1].mean()) / exact[train, 0, 1].std()
    assert set(np.round(told).astype(int)) <= {-3, -1, 1, 3}


def test_of_two_answers_the_sign_of_the_difference_is_kept() -> None:
    exact = logp(8, 2)
    found = rounded(exact, np.arange(600), np.random.default_rng(9)).astype(float)
    was, given = (each[:, 0] - each[:, 1] for each in (pmi_of(exact), pmi_of(found)))
    assert ((was > 0) == (given > 0)).mean() > 0.999
    assert len({round(size, 1) for size in np.abs(given) / np.sqrt(np.mean(was**2))}) <= 5
    swapped = rounded(exact[:, ::-1], np.arange(600), np.random.default_rng(9))
    assert pmi_of(swapped)[:, ::-1] == pytest.approx(pmi_of(found), abs=0.2)


def pmi_of(logp: np.ndarray) -> np.ndarray:
    return logp[..., 0].astype(float) - logp[..., 1]


def test_log_likelihoods_without_spread_stay_as_they_are() -> None:
    same = np.full((50, 1, 3), [-20.0, -30.0, 12.0], np.float32)
    assert (rounded(same, np.arange(50), np.random.default_rng(1)) == same).all()


class Given:
    """States (N, 2, 64) of rows that are numbered by their prompt."""

    def states(self, rows: Sequence[Example], layer: int) -> np.ndarray:
        drawn = np.random.default_rng([8, layer]).normal(size=(900, 2, 64))
        return drawn[[int(row.prompt) for row in rows]].astype(np.float32)


def known_by_marks(noise: float, even: bool, monkeypatch: pytest.MonkeyPatch) -> float:
    """Return the share of rows that are found again by their lengths in three layers."""
    rows = [Example(str(n), str(n), str(n), ("a", "b")) for n in range(900)]
    table = Table(Given(), rows[:600], rows[600:])

    def marks(seed: int) -> np.ndarray:
        found = []
        for layer in (1, 2, 3):
            drawn = np.random.default_rng([seed, layer])
            given = table.turned(layer, "secret", lambda drawn=drawn: drawn)
            pair = given[table.places(rows[:600])].reshape(600, 2, -1)
            found += [*np.linalg.norm(pair, axis=2).T]
        return np.stack(found, axis=1)

    with monkeypatch.context() as patch:
        if not even:
            patch.setattr(basis, "even", lambda states: states)
        patch.setattr(basis, "NOISE", 0.0)
        known = marks(1)
        patch.setattr(basis, "NOISE", noise)
        given, scale = marks(2), np.abs(marks(3) - known).mean(axis=0) + 1e-9
    far = (((given[:, None] - known[None]) / scale) ** 2).sum(axis=2)
    return float((far.argmin(axis=1) == np.arange(600)).mean())


def test_rows_are_not_known_by_what_a_turn_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lengths in a few layers name every row, and a little noise stops little.

    With one length, the distance of a pair's answers stays as a mark: benchmarks/noise.py.
    """
    assert basis.NOISE == 0.1
    assert known_by_marks(0.0, False, monkeypatch) == 1.0
    assert known_by_marks(0.1, False, monkeypatch) > 0.5, "a little noise stops nothing"
    assert known_by_marks(0.1, True, monkeypatch) < 0.05


def test_states_of_one_length() -> None:
    states = np.random.default_rng(1).normal(size=(50, 8)).astype(np.float32)
    states[7] = 0
    sizes = np.linalg.norm(basis.even(states), axis=1)
    assert sizes[7] == 0 and np.delete(sizes, 7) == pytest.approx(np.delete(sizes, 7)[0])
