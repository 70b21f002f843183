"""Statistics over replicates and ideas: golden values, properties, coverage by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aarlab.core.ideas import FAMILY_KEYS, IdeaFamily
from aarlab.report.arms import MAX_SPLITS, Sample, corrected, difference, permutation_test, spread
from aarlab.report.idea_data import diversity, entropy_bits

families = st.lists(st.sampled_from(FAMILY_KEYS), min_size=1, max_size=40)
values = st.lists(st.floats(-2, 2), min_size=2, max_size=6)


@given(families)
def test_entropy_lies_between_zero_and_log2_of_the_families(ideas: list[IdeaFamily]) -> None:
    bits = entropy_bits(ideas)
    assert 0 <= bits <= math.log2(min(len(ideas), len(FAMILY_KEYS))) + 1e-9
    assert (bits == 0) == (len(set(ideas)) == 1)


@given(families, st.randoms(use_true_random=False))
def test_entropy_knows_no_order_and_no_names(ideas: list[IdeaFamily], rng) -> None:
    other = list(FAMILY_KEYS)
    rng.shuffle(other)
    renamed = [other[FAMILY_KEYS.index(idea)] for idea in ideas]
    rng.shuffle(renamed)
    assert entropy_bits(renamed) == pytest.approx(entropy_bits(ideas), abs=1e-9)
    assert entropy_bits(ideas * 3) == pytest.approx(entropy_bits(ideas), abs=1e-9)


def test_entropy_golden() -> None:
    assert entropy_bits(["loss"] * 4) == 0.0
    assert entropy_bits(["loss", "probing"] * 3) == pytest.approx(1.0)
    assert entropy_bits(list(FAMILY_KEYS)) == pytest.approx(math.log2(11))


def test_steps_with_fewer_than_five_aars_are_dropped() -> None:
    ideas: dict[str, list[IdeaFamily | None]] = {
        f"a{i}": ["loss", "probing", "teachers"] for i in range(6)
    }
    ideas["a5"] = ["probing", None]
    ideas["a4"] = ["loss"]
    points = diversity(ideas, resamples=200)
    assert [(p.step, p.n_aars) for p in points] == [(1, 6)]
    assert points[0].bits == pytest.approx(0.650022, abs=1e-6)  # 5 against 1
    assert points[0].low <= points[0].bits and points[0].high <= 1.0
    assert points == diversity(ideas, resamples=200)
    assert diversity({}) == []


@settings(deadline=None)
@given(values, values, st.floats(-3, 3))
def test_a_difference_knows_direction_and_level(a, b, shift: float) -> None:
    one, other = (
        difference(Sample("a", a), Sample("b", b)),
        difference(Sample("b", b), Sample("a", a)),
    )
    assert one.value == pytest.approx(-other.value, abs=1e-9)
    moved = difference(Sample("a", [v + shift for v in a]), Sample("b", b))
    assert moved.value == pytest.approx(one.value + shift, abs=1e-6)
    if one.low is not None and other.low is not None:
        assert one.low == pytest.approx(-other.high, abs=1e-6)
        assert one.low <= one.value <= one.high


def test_welch_golden() -> None:
    # scipy.stats.ttest_ind([.1, .2, .4], [.5, .6, .9], equal_var=False): p = 0.048646
    found = difference(Sample("a", [0.1, 0.2, 0.4]), Sample("b", [0.5, 0.6, 0.9]))
    assert found.value == pytest.approx(-0.433333, abs=1e-6)
    assert found.p_welch == pytest.approx(0.048646, abs=1e-4)
    assert (found.low, found.high) == pytest.approx((-0.862334, -0.004333), abs=1e-5)
    assert (found.p_permutation, found.p_floor, found.exact) == (0.1, 0.1, True)


def test_one_replicate_has_no_interval_and_none_has_no_value() -> None:
    one = difference(Sample("a", [0.4]), Sample("b", [0.1, 0.3]))
    assert one.value == pytest.approx(0.2) and one.low is None and one.p_welch is None
    assert difference(Sample("a", []), Sample("b", [0.1])).value is None
    same = difference(Sample("a", [0.2, 0.2]), Sample("b", [0.1, 0.1]))
    assert same.low is None and same.value == pytest.approx(0.1)
    assert spread([]) is None and spread([0.3]).low is None


def test_holm_is_a_step_down() -> None:
    ps = [0.01, 0.04, 0.03, None]
    table = [difference(Sample("a", [0.0]), Sample("b", [0.0]))._replace(p_welch=p) for p in ps]
    assert [d.p_holm for d in corrected(table)] == [pytest.approx(0.03), 0.06, 0.06, None]


def test_permutation_counts_all_splits() -> None:
    assert permutation_test([1.0, 2.0], [3.0, 4.0]) == (pytest.approx(2 / 6), 2 / 6, True)
    assert permutation_test([1.0, 1.0], [1.0, 1.0])[0] == 1.0
    # unequal sizes, by hand: of 10 splits {4, 5} and {1, 2} are as far apart as |4.5 - 2|
    assert permutation_test([4.0, 5.0], [1.0, 2.0, 3.0]) == (pytest.approx(2 / 10), 1 / 10, True)


def test_drawn_splits_claim_no_more_than_they_can() -> None:
    """14 against 14 has 40 million splits: 20,000 drawn ones support 1 in 20,001 and no less."""
    first, second = [float(v) for v in range(14)], [float(v) + 100 for v in range(14)]
    assert math.comb(28, 14) > MAX_SPLITS
    found = permutation_test(first, second)
    assert found == (pytest.approx(1 / 20_001), pytest.approx(1 / 20_001), False)
    assert permutation_test(first, second) == found, "the same numbers for the same replicates"


@pytest.mark.parametrize(
    ("n", "sd_ratio"), [(3, 1.0), (3, 3.0), pytest.param(5, 1.0, marks=pytest.mark.gate)]
)
def test_welch_intervals_cover_what_they_say(n: int, sd_ratio: float) -> None:
    """95 % of intervals over few replicates hold the true difference, 0.3, within simulation
    error (SE .6 % at 1,200 draws; Welch is a little wide at 3)."""
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(1200):
        a, b = rng.normal(0.3, 0.1, n), rng.normal(0.0, 0.1 * sd_ratio, n)
        found = difference(Sample("a", a.tolist()), Sample("b", b.tolist()))
        held += found.low <= 0.3 <= found.high
    assert 0.93 <= held / 1200 <= 0.985
