"""Derived figures: golden values and properties."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aarlab.core.pgr import teacher_contribution
from aarlab.core.ranking import against, difference_low
from aarlab.core.wire import Interval
from aarlab.report import view
from aarlab.report.view import Point

from .conftest import estimate

values = st.floats(-3, 3, allow_nan=False)
points = st.lists(
    st.builds(lambda h, v: Point(h, estimate(v)), st.floats(0, 1000), values), max_size=30
)


@given(points)
def test_best_so_far_rises_strictly_and_ends_at_the_maximum(given_points: list[Point]) -> None:
    raised = view.best_so_far(given_points)
    heights = [point.estimate.value for point in raised]
    assert heights == sorted(set(heights))
    assert [p.hours for p in raised] == sorted(p.hours for p in raised)
    assert max(heights, default=None) == max((p.estimate.value for p in given_points), default=None)


@given(points)
def test_best_so_far_is_the_maximum_of_what_came_before(given_points: list[Point]) -> None:
    for raised in view.best_so_far(given_points):
        earlier = [p.estimate.value for p in given_points if p.hours <= raised.hours]
        assert raised.estimate.value == max(earlier) or any(
            p.hours == raised.hours for p in given_points if p is not raised
        )


@given(st.lists(points, max_size=4))
def test_frontier_dominates_every_aar(groups: list[list[Point]]) -> None:
    shared = view.frontier(groups)
    for group in groups:
        for point in view.best_so_far(group):
            reached = [p.estimate.value for p in shared if p.hours <= point.hours]
            assert max(reached) >= point.estimate.value


def test_teacher_contribution_golden() -> None:
    def of(pgr: float, permuted: float) -> float | None:
        return teacher_contribution(estimate(pgr), estimate(permuted))

    assert of(0.6, 0.0) == pytest.approx(1.0)
    assert of(0.6, 0.6) == 0.0
    assert of(0.5, -0.25) == 1.0  # no more than all of it
    assert of(0.0, -0.1) is None and of(0.1, -0.6) is None  # [-.01, .22]: may be 0
    assert teacher_contribution(None, estimate(0.1)) is None
    assert teacher_contribution(estimate(0.6), None) is None


@given(values, values)
def test_teacher_contribution_is_defined_where_the_lower_bound_is_above_zero(
    pgr: float, low: float
) -> None:
    found = teacher_contribution(estimate(pgr), estimate(low))
    assert (found is not None) == (estimate(pgr).low > 0)
    if found is not None:
        assert found <= 1 and math.isfinite(found)
        assert (found > 0) == (estimate(pgr).value > estimate(low).value)


@given(st.floats(0.001, 1), st.integers(2, 10_000))
def test_expected_maximum_grows_with_the_number_tried(stderr: float, n_tried: int) -> None:
    assert view.expected_maximum(stderr, n_tried + 1) > view.expected_maximum(stderr, n_tried)
    assert view.expected_maximum(stderr, 1) == view.expected_maximum(stderr, 0) == 0.0


def test_expected_maximum_golden() -> None:
    # sqrt(2 ln 16) = 2.355: with a seed SD of .10 the best of 16 is flattered by up to .24
    assert view.expected_maximum(0.10, 16) == pytest.approx(0.2355, abs=1e-4)


def test_against_needs_more_than_noise_and_more_still_for_many_methods() -> None:
    guard = estimate(0.10, 0.05)  # up to .205: the half-width above is 2.1 standard errors
    assert against(estimate(0.05, 0.05), guard, 1) == "below"
    assert against(estimate(0.10, 0.05), guard, 1) == "below"
    assert against(estimate(0.24, 0.05), guard, 1) == "unclear"  # .14 < hypot(.101, .105) = .1457
    assert against(estimate(0.25, 0.05), guard, 1) == "above"
    assert against(estimate(0.25, 0.05), guard, 20) == "unclear"  # 1.62 of it: .236
    assert against(estimate(0.34, 0.05), guard, 20) == "above"
    # Half-widths of 2.06 standard errors have 26 degrees of freedom; t .99875 over .975 is 1.64.
    assert difference_low(estimate(0.34, 0.05), guard, 20) == pytest.approx(0.0022, abs=5e-4)
    assert against(estimate(0.10, 0.05), None, 1) == "unclear"  # the weak teacher: [0, .2]
    assert against(estimate(0.11, 0.05), None, 1) == "above"


@given(values, values, st.floats(0.001, 0.5), st.integers(1, 500))
def test_trying_more_methods_never_helps(a: float, b: float, stderr: float, n_tried: int) -> None:
    order = ["below", "unclear", "above"]
    method, guard = estimate(a, stderr), estimate(b, stderr)
    few, many = against(method, guard, n_tried), against(method, guard, n_tried * 3)
    assert order.index(many) <= order.index(few)


def test_typical_stderr_of_nothing_is_none() -> None:
    empty: list[Interval] = []
    assert view.typical_stderr(empty) is None
    assert view.typical_stderr([estimate(0, s) for s in (0.1, 0.2, 0.9)]) == 0.2
