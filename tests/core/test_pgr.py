"""PGR: the formula, the interval's coverage, and the errors that are not numbers."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from aarlab.core.errors import BadInput, BaselineMissing, GapNotPositive
from aarlab.core.pgr import (
    Outcomes,
    SeedSpread,
    accuracy,
    accuracy_difference,
    gap,
    matching_dof,
    pgr,
    pgr_difference,
    seed_spread,
    shrunk_best,
    t_quantile,
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


def with_spread(o: Outcomes, variance: float, n_seeds: int = 16) -> Outcomes:
    return replace(o, spread=SeedSpread(variance, n_seeds))


def test_the_spread_of_plain_students_is_what_they_were_drawn_with() -> None:
    """Teachers move the share of right answers by .05, single answers by far more."""
    rng, found = np.random.default_rng(20), []
    for _ in range(300):
        share_S = 0.7 + 0.05 * rng.normal(size=(16, 1))
        found.append(seed_spread(rng.random((16, 400)) < share_S))
    assert np.mean([one.variance for one in found]) == pytest.approx(0.0025, rel=0.1)
    assert found[0].n_seeds == 16
    assert seed_spread(np.tile(rng.random(400) < 0.7, (3, 1))).variance == 0
    with pytest.raises(BadInput, match="at least two"):
        seed_spread(np.ones((1, 400), np.bool_))


def test_seeds_that_agree_by_luck_do_not_narrow_the_interval_below_the_floor() -> None:
    o = simulate(np.random.default_rng(21), 0.5, 5, 0.0)
    alike = replace(o, transfer_SN=np.tile(o.transfer_SN[:1], (5, 1)))  # seed part exactly 0
    gap_squared = (o.ceiling_SN.mean() - o.weak_SN.mean()) ** 2
    bare, floored = pgr(alike), pgr(with_spread(alike, 0.002))
    added = floored.stderr**2 - bare.stderr**2
    assert added == pytest.approx(0.002 / 5 / gap_squared)
    assert floored.low < bare.low < bare.high < floored.high
    assert floored.value == bare.value
    measured = pgr(simulate(np.random.default_rng(22), 0.5, 5, 0.5))
    tiny = pgr(with_spread(simulate(np.random.default_rng(22), 0.5, 5, 0.5), 1e-9))
    assert tiny == measured, "a floor below what was measured changes nothing"


def test_an_accuracy_has_the_floor_too_and_a_paired_difference_has_none() -> None:
    o = simulate(np.random.default_rng(23), 0.5, 4, 0.0)
    alike = np.tile(o.transfer_SN[:1], (4, 1))
    bare = accuracy(alike, o.groups_N)
    floored = accuracy(alike, o.groups_N, spread=SeedSpread(0.004, 16))
    assert floored.stderr**2 - bare.stderr**2 == pytest.approx(0.001)
    paired = pgr_difference(with_spread(o, 0.1), o.transfer_SN)
    assert (paired.value, paired.stderr) == (0, 0), "runs with the same teachers share its effect"


def test_one_seed_covers_the_spread_of_plain_students_where_it_is_known() -> None:
    o = simulate(np.random.default_rng(24), 0.5, 1, 0.1)
    assert pgr(with_spread(o, 0.001)).covers[-1] == "seeds of plain students"
    assert accuracy(o.transfer_SN, o.groups_N, spread=SeedSpread(0.001, 9)).covers == [
        "rows", "seeds of plain students"]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 8), st.floats(0, 0.01), st.floats(1, 4))
def test_a_higher_floor_never_narrows_and_never_moves(
    seed: int, n_seeds: int, variance: float, more: float
) -> None:
    """Both floors are above what was measured; the gap stays clear, whatever the floor."""
    o = simulate(np.random.default_rng(seed), 0.5, n_seeds, 0.0)
    alike = replace(o, transfer_SN=np.tile(o.transfer_SN[:1], (n_seeds, 1)))
    low, high = pgr(with_spread(alike, variance)), pgr(with_spread(alike, variance * more))
    assert high.low <= low.low + 1e-12 and low.high <= high.high + 1e-12
    assert low.value == high.value and low.stderr <= high.stderr + 1e-12


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 8))
def test_degrees_of_freedom_say_how_wide_the_interval_is(seed: int, n_seeds: int) -> None:
    """For a plain mean, whose interval is symmetric: t quantile times standard error."""
    o = simulate(np.random.default_rng(seed), 0.5, n_seeds, 0.2)
    found = accuracy(o.transfer_SN, o.groups_N)
    assert found.dof is not None and 1 <= found.dof < 149.01  # of 150 problems
    assert t_quantile(found.dof) * found.stderr == pytest.approx(found.value - found.low)


def test_degrees_of_freedom_are_found_from_their_quantile() -> None:
    assert matching_dof(2.364624) == pytest.approx(7, rel=1e-5)  # t table, .975, 7 dof
    assert matching_dof(12.7062) == pytest.approx(1, rel=1e-5)
    assert matching_dof(100.0) == 1.0 and matching_dof(1.95) == 1e6


def many_methods(rng: np.random.Generator, n_methods: int, n_seeds: int = 6):
    """Methods that differ by luck alone; their rows share problems, as do the baselines."""
    o = simulate(rng, 0.5, n_seeds, 0.1)
    row_N = rng.normal(size=150).repeat(4) * 0.6 + rng.normal(size=600) * 0.8
    own = rng.normal(size=(n_methods, 1, 150)).repeat(4, axis=-1) * 0.5
    noise = rng.normal(size=(n_methods, n_seeds, 600))
    sd = np.sqrt(0.36 + 0.64 + 0.25 + 1)
    return list(norm.ppf(WEAK + 0.5 * (CEILING - WEAK)) * sd + row_N + own + noise > 0), o


def best_first(methods: list[np.ndarray]) -> list[np.ndarray]:
    return sorted(methods, key=lambda one: -one.mean())


def test_the_best_of_equal_methods_is_shrunk_to_what_all_are_worth() -> None:
    rng, plain, shrunk, covered = np.random.default_rng(30), [], [], []
    for _ in range(150):
        methods, o = many_methods(rng, 20)
        figures = [pgr(replace(o, transfer_SN=one)) for one in methods]
        best = shrunk_best(best_first(methods), o)
        plain.append(max(figure.value for figure in figures))
        shrunk.append(best.value)
        covered.append(best.low <= 0.5 <= best.high)
    assert np.mean(plain) > 0.56, "chosen from 20, luck alone is worth .08"
    assert np.mean(shrunk) == pytest.approx(0.5, abs=0.02)
    assert np.mean(covered) >= 0.93


def test_what_stands_far_above_the_others_is_hardly_shrunk() -> None:
    methods, o = many_methods(np.random.default_rng(31), 8)
    far = np.random.default_rng(32).random(methods[0].shape) < 0.3
    methods[3] = methods[3] | far  # right on a third of what it had wrong
    plain = pgr(replace(o, transfer_SN=methods[3]))
    best = shrunk_best(best_first(methods), o)
    mean = np.mean([pgr(replace(o, transfer_SN=one)).value for one in methods])
    assert mean < best.value < plain.value
    assert plain.value - best.value < 0.25 * (plain.value - mean)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 6))
def test_a_shrunk_figure_lies_between_the_mean_and_the_best(seed: int, n_methods: int) -> None:
    methods, o = many_methods(np.random.default_rng(seed), n_methods, n_seeds=3)
    values = [pgr(replace(o, transfer_SN=one)).value for one in methods]
    best = shrunk_best(best_first(methods), o)
    assert np.mean(values) - 1e-9 <= best.value <= max(values) + 1e-9
    assert best.low <= best.value <= best.high
    first, *others = best_first(methods)
    assert shrunk_best([first, *others[::-1]], o).value == pytest.approx(best.value)
    assert shrunk_best(methods[:1], o) == pgr(replace(o, transfer_SN=methods[0]))
