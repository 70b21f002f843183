"""Search minus selection, less what vanilla fell by; and intervals of one seed, which say so."""

import numpy as np
import pytest

from aarlab.core.headline import Both, Drop
from aarlab.core.pgr import Outcomes, SeedSpread, accuracy, pgr
from aarlab.core.showing import interval, level
from aarlab.core.wire import Interval


def figure(value: float, half: float = 0.2, n_seeds: int = 8) -> Interval:
    return Interval(value=value, stderr=half / 2, low=value - half, high=value + half, n_rows=9,
                    n_seeds=n_seeds, covers=["rows"])  # fmt: skip


def test_a_drop_is_less_what_vanilla_fell_by() -> None:
    drop = Drop(Both(figure(0.7), figure(0.4)), Both(figure(0.3), figure(0.05)))
    assert (drop.method.drop, drop.value) == (pytest.approx(0.3), pytest.approx(0.05))
    assert drop.said() == "search minus selection is +0.30, +0.05 less vanilla's +0.25"
    alone = Drop(Both(figure(0.7), figure(0.4)), None)
    assert alone.value == pytest.approx(0.3) and "vanilla was not run" in alone.said()


def test_a_drop_is_as_uncertain_as_the_less_certain_of_the_two() -> None:
    sure, unsure = Both(figure(0.7, 0.1), figure(0.4, 0.1)), Both(figure(0.3), figure(0.3))
    error = np.hypot(0.2, 0.2) / 1.959964  # half-widths, which t quantiles have widened
    assert Drop(sure, unsure).z == pytest.approx(0.3 / error)
    assert Drop(unsure, sure).z == pytest.approx(-0.3 / error)


def test_an_interval_of_one_seed_is_not_called_one_of_95_per_cent() -> None:
    assert level(figure(0.5)) == "95 %" and interval(figure(0.5)) == "0.50 [0.30, 0.70]"
    one = figure(0.5, n_seeds=1)
    assert level(one) == "one seed, rows only" and interval(one) == "0.50 [0.30, 0.70, one seed]"
    rng = np.random.default_rng(1)
    right_SN = rng.random((1, 80)) < 0.7
    groups = tuple(f"g{n // 4}" for n in range(80))
    known = accuracy(right_SN, groups, spread=SeedSpread(0.001, 16))
    assert level(known) == "one seed", "it covers what plain students differ by, too"
    weak, ceiling = rng.random((4, 80)) < 0.5, rng.random((4, 80)) < 0.95
    assert level(pgr(Outcomes(right_SN, weak, ceiling, groups))) == "one seed, rows only"
