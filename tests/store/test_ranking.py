"""Seeds that nobody knows before the code is frozen, and bounds that pay for every method tried."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aarlab.core.ranking import difference_low, leaderboard, widening
from aarlab.core.wire import Interval, NewVerification, Snapshot, Verification
from aarlab.store import verifications
from aarlab.store.database import Database

SNAPSHOT = Snapshot(
    id="a" * 40, aar="ann", name="m", message="", parent=None, at="t", n_files=1, n_bytes=1
)


def run(snapshot: str, value: float, stderr: float = 0.1, **changes: object) -> Verification:
    low, high = value - 2 * stderr, value + 2 * stderr
    estimate = Interval(
        value=value, stderr=stderr, low=low, high=high, n_rows=9, n_seeds=2, covers=["rows"]
    )
    known = {"id": f"ver_{snapshot}", "snapshot": snapshot, "aar": "ann", "method": "m"}
    known |= {"task": "t", "split": "selection", "ablation": "none", "run_seeds": [1, 2]}
    return Verification.model_validate({**known, "state": "done", "estimate": estimate, **changes})


async def test_seeds_are_drawn_anew_and_cannot_be_guessed(tmp_path: Path) -> None:
    database = Database(tmp_path / "platform.db")
    await database.open()
    wanted = NewVerification(snapshot=SNAPSHOT.id, task="t", n_seeds=16)
    async with database.write() as tx:
        first, second = [(await verifications.add(tx, wanted, SNAPSHOT)).run_seeds for _ in "ab"]
    await database.close()
    assert len(set(first)) == len(set(second)) == 16 and not set(first) & set(second)
    assert max(first) > 2**24, "from a range that no method can try out"


@pytest.mark.parametrize("n_tried", [1, 5, 40])
def test_the_lower_bound_holds_for_all_methods_that_were_tried(n_tried: int) -> None:
    runs = [run("best", 0.9), *(run(f"s{n}", 0.1) for n in range(n_tried - 1))]
    best = leaderboard(runs, ["t"])[0]
    # Two standard errors are the half-width: a t quantile of 60 degrees of freedom.
    quantile = {1: 2.000, 5: 2.660, 40: 3.446}[n_tried]
    assert best.n_tried == n_tried
    assert best.low_corrected == pytest.approx(0.9 - quantile * 0.1, abs=0.006)


def test_few_seeds_cost_a_corrected_bound_more_than_many() -> None:
    """As wide at 95 %, but of 3 degrees of freedom: t of .9975 is 7.45, of .975 is 3.18."""
    others = [run(f"s{n}", 0.1) for n in range(9)]
    many, few = run("many", 0.9), run("few", 0.9)
    few.estimate.__dict__["dof"], many.estimate.__dict__["dof"] = 3.0, 1e6
    lows = [leaderboard([one, *others], ["t"])[0].low_corrected for one in (many, few)]
    assert lows == [pytest.approx(0.9 - 0.2 * 2.807 / 1.960, abs=0.006),
                    pytest.approx(0.9 - 0.2 * 7.453 / 3.182, abs=0.006)]  # fmt: skip


@given(st.floats(-1, 2), st.floats(0.001, 1), st.floats(1, 8), st.integers(1, 1000))
def test_a_corrected_bound_never_lies_above_the_plain_one(
    value: float, stderr: float, wide: float, tried: int
) -> None:
    half = stderr * wide
    one = Interval(value=value, stderr=stderr, low=value - half, high=value + half, n_rows=9,
                   n_seeds=2, covers=["rows"])  # fmt: skip
    assert widening(one, tried) >= 1.0 and widening(one, 1) == 1.0
    assert widening(one, tried + 1) >= widening(one, tried)
    assert difference_low(one, None, tried) <= one.low + 1e-12


def test_a_method_that_may_not_rank_counts_as_tried() -> None:
    runs = [run("best", 0.9), run("hack", 1.5)]
    [best] = leaderboard(runs, ["t"], kept_out={"hack"})
    assert (best.snapshot, best.n_tried) == ("best", 2)


def test_another_draw_of_seeds_does_not_improve_a_figure() -> None:
    runs = [run("s", 0.2), run("s", 0.8), run("s", 0.9, split="certify")]
    runs += [run("s", 0.7, ablation="permuted")]
    [line] = leaderboard(runs, ["t"])
    assert line.pgr == 0.2 and line.n_tried == 1
