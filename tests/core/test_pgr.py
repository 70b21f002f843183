"""PGR: the formula, the interval's coverage, and the errors that are not numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from aarlab.core.errors import BadInput, BaselineMissing, GapNotPositive
from aarlab.core.pgr import (
    Outcomes,
    accuracy,
    accuracy_difference,
    gap,
    pgr,
    pgr_difference,
)

WEAK, CEILING = 0.62, 0.87


def simulate(
    rng: np.random.Generator, true_pgr: float, n_seeds: int, seed_sd: float, n_groups: int = 150
) -> Outcomes:
    """Crossed seeds and rows with correlated rows in a group; population PGR is `true_pgr`."""
    n_rows = n_groups * 4
    group_N = rng.normal(size=n_groups).repeat(4) * 0.6
    row_N = group_N + rng.normal(size=n_rows) * 0.8
    total_sd = np.sqrt(1 + 0.36 + 0.64 + seed_sd**2)

    def arm(seeds: int, accuracy: float) -> np.ndarray:
        noise = rng.normal(size=(seeds, 1)) * seed_sd + rng.normal(size=(seeds, n_rows))
        return norm.ppf(accuracy) * total_sd + row_N + noise > 0

    transfer = WEAK + true_pgr * (CEILING - WEAK)
    groups = tuple(f"g{i}" for i in np.arange(n_groups).repeat(4))
    return Outcomes(arm(n_seeds, transfer), arm(8, WEAK), arm(8, CEILING), groups)


@pytest.mark.parametrize(
    ("true_pgr", "n_seeds", "seed_sd"),
    [(0.0, 5, 0.1), (0.3, 5, 0.1), (0.9, 8, 0.1), (0.3, 8, 0.3), (0.3, 5, 0.3), (0.9, 5, 0.0)],
)
def test_interval_covers_the_known_pgr(true_pgr: float, n_seeds: int, seed_sd: float) -> None:
    rng = np.random.default_rng(7)
    estimates = [pgr(simulate(rng, true_pgr, n_seeds, seed_sd)) for _ in range(600)]
    covered = np.mean([e.low <= true_pgr <= e.high for e in estimates])
    assert 0.92 <= covered <= 0.98
    assert abs(np.mean([e.value for e in estimates]) - true_pgr) < 0.02


def test_formula() -> None:
    rng = np.random.default_rng(0)
    o = simulate(rng, 0.5, 5, 0.1)
    expected = (o.transfer_SN.mean() - o.weak_SN.mean()) / (o.ceiling_SN.mean() - o.weak_SN.mean())
    assert pgr(o).value == pytest.approx(expected)


def test_groups_widen_the_interval() -> None:
    """Rows of one problem are not independent: ignoring groups would claim more than is known."""
    rng = np.random.default_rng(1)
    o = simulate(rng, 0.5, 5, 0.1)
    alone = Outcomes(o.transfer_SN, o.weak_SN, o.ceiling_SN, tuple(map(str, range(600))))
    assert pgr(o).stderr > pgr(alone).stderr * 1.02


def test_one_transfer_seed_says_what_it_does_not_cover() -> None:
    o = simulate(np.random.default_rng(2), 0.5, 1, 0.1)
    assert "transfer seeds" not in pgr(o).covers
    assert "transfer seeds" in pgr(simulate(np.random.default_rng(2), 0.5, 2, 0.1)).covers


def test_a_gap_that_is_not_clearly_positive_is_an_error() -> None:
    o = simulate(np.random.default_rng(3), 0.5, 5, 0.1)
    with pytest.raises(GapNotPositive, match="not clearly positive"):
        pgr(Outcomes(o.transfer_SN, o.weak_SN, o.weak_SN, o.groups_N))
    with pytest.raises(GapNotPositive):
        pgr(Outcomes(o.transfer_SN, o.ceiling_SN, o.weak_SN, o.groups_N))


def test_bad_shapes_and_missing_baselines() -> None:
    o = simulate(np.random.default_rng(4), 0.5, 5, 0.1)
    with pytest.raises(BadInput, match="transfer"):
        pgr(Outcomes(o.transfer_SN[:, :-1], o.weak_SN, o.ceiling_SN, o.groups_N))
    with pytest.raises(BaselineMissing, match="ceiling"):
        pgr(Outcomes(o.transfer_SN, o.weak_SN, o.ceiling_SN[:1], o.groups_N))
    with pytest.raises(BadInput, match="two problems"):
        pgr(Outcomes(o.transfer_SN, o.weak_SN, o.ceiling_SN, ("g",) * 600))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.floats(-0.3, 1.2), st.integers(1, 8))
def test_interval_contains_its_value_and_row_order_does_not_matter(
    seed: int, true_pgr: float, n_seeds: int
) -> None:
    rng = np.random.default_rng(seed)
    o = simulate(rng, true_pgr, n_seeds, 0.1)
    estimate = pgr(o)
    assert estimate.low <= estimate.value <= estimate.high
    order = rng.permutation(len(o.groups_N))
    groups = tuple(o.groups_N[i] for i in order)
    shuffled = Outcomes(
        o.transfer_SN[:, order], o.weak_SN[:, order], o.ceiling_SN[:, order], groups
    )
    again = pgr(shuffled)
    assert again.value == pytest.approx(estimate.value)
    assert again.low == pytest.approx(estimate.low) and again.high == pytest.approx(estimate.high)


def two_methods(rng: np.random.Generator, n_seeds: int, better: float, n_groups: int = 100):
    """Two methods whose runs share the row's difficulty and most of their seed's noise."""
    n_rows = n_groups * 4
    row_N = rng.normal(size=n_groups).repeat(4) * 0.6 + rng.normal(size=n_rows) * 0.8
    shared_SN = rng.normal(size=(n_seeds, 1)) * 0.2 + rng.normal(size=(n_seeds, n_rows))
    total_sd = np.sqrt(0.36 + 0.64 + 0.04 + 1 + 0.16)

    def arm(accuracy: float) -> np.ndarray:
        own_SN = rng.normal(size=(n_seeds, n_rows)) * 0.4
        return norm.ppf(accuracy) * total_sd + row_N + shared_SN + own_SN > 0

    groups = tuple(f"g{i}" for i in np.arange(n_groups).repeat(4))
    return arm(0.7 + better), arm(0.7), groups


def test_a_paired_difference_covers_the_known_one_and_is_narrower_than_an_unpaired_one() -> None:
    rng, better = np.random.default_rng(11), 0.03
    paired, apart = [], []
    for _ in range(600):
        first, second, groups = two_methods(rng, 6, better)
        paired.append(accuracy_difference(first, second, groups, same_seeds=True))
        apart.append(accuracy_difference(first, second, groups, same_seeds=False))
    assert 0.92 <= np.mean([d.low <= better <= d.high for d in paired]) <= 0.98
    assert abs(np.mean([d.value for d in paired]) - better) < 0.002
    assert np.mean([d.stderr for d in paired]) < 0.8 * np.mean([d.stderr for d in apart])


def test_a_difference_in_pgr_covers_the_known_one() -> None:
    rng, covered = np.random.default_rng(12), []
    for _ in range(600):
        o = simulate(rng, 0.5, 6, 0.1)
        other = o.transfer_SN & (rng.random(o.transfer_SN.shape) > 0.1)  # a tenth of it undone
        true = 0.1 * (WEAK + 0.5 * (CEILING - WEAK)) / (CEILING - WEAK)
        found = pgr_difference(o, other)
        covered.append(found.low <= true <= found.high)
    assert 0.92 <= np.mean(covered) <= 0.985


def test_a_difference_in_pgr_is_the_difference_of_the_pgrs() -> None:
    rng = np.random.default_rng(13)
    a, b = simulate(rng, 0.6, 5, 0.1), simulate(rng, 0.2, 5, 0.1)
    other = Outcomes(b.transfer_SN, a.weak_SN, a.ceiling_SN, a.groups_N)
    found = pgr_difference(a, b.transfer_SN)
    assert found.value == pytest.approx(pgr(a).value - pgr(other).value)
    assert pgr_difference(a, a.transfer_SN).value == 0
    with pytest.raises(BadInput, match="paired"):
        pgr_difference(a, b.transfer_SN[:2])


def test_an_unclear_gap_has_accuracies_and_no_pgr() -> None:
    o = simulate(np.random.default_rng(14), 0.5, 5, 0.1)
    clear, flat = gap(o.weak_SN, o.ceiling_SN, o.groups_N), gap(o.weak_SN, o.weak_SN, o.groups_N)
    assert clear.clear and not flat.clear and "gap: not clear" in flat.said()
    assert flat.weak.low < flat.weak.value == o.weak_SN.mean() < flat.weak.high
    assert clear.difference.value == pytest.approx(o.ceiling_SN.mean() - o.weak_SN.mean())
    one = accuracy(o.transfer_SN[:1], o.groups_N)
    assert one.covers == ["rows"] and one.value == o.transfer_SN[0].mean()


@given(st.integers(0, 2**20), st.integers(20, 60))
@settings(max_examples=60, deadline=None)
def test_a_gap_is_clear_exactly_where_there_is_a_pgr(seed: int, n_groups: int) -> None:
    o = simulate(np.random.default_rng(seed), 0.5, 3, 0.3, n_groups)
    ceiling = np.where(np.random.default_rng(seed).random(o.weak_SN.shape) > 0.25, o.weak_SN, True)
    try:
        pgr(Outcomes(o.transfer_SN, o.weak_SN, ceiling, o.groups_N))
        has_pgr = True
    except GapNotPositive:
        has_pgr = False
    assert gap(o.weak_SN, ceiling, o.groups_N).clear == has_pgr
