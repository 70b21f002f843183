"""Seeds that nobody knows before the code is frozen, and bounds that pay for every method tried."""

from pathlib import Path
from statistics import NormalDist

import pytest

from aarlab.core.ranking import leaderboard
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
    z = NormalDist().inv_cdf(1 - 0.025 / n_tried)
    assert best.n_tried == n_tried
    assert best.low_corrected == pytest.approx(0.9 - z * 0.1, abs=0.006)


def test_a_method_that_may_not_rank_counts_as_tried() -> None:
    runs = [run("best", 0.9), run("hack", 1.5)]
    [best] = leaderboard(runs, ["t"], kept_out={"hack"})
    assert (best.snapshot, best.n_tried) == ("best", 2)


def test_another_draw_of_seeds_does_not_improve_a_figure() -> None:
    runs = [run("s", 0.2), run("s", 0.8), run("s", 0.9, split="certify")]
    runs += [run("s", 0.7, ablation="permuted")]
    [line] = leaderboard(runs, ["t"])
    assert line.pgr == 0.2 and line.n_tried == 1
