"""Patterns among submissions: label hunting shows, ordinary research does not."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aarlab.core.wire import Predictions, Run, Score, ShownScore
from aarlab.store.submissions import Stored, traces

N = 200


def stored(probs_N, number: int, method: str = "", minute: int | None = None) -> Stored:
    name = f"sub_{number}"
    score = Score(
        submission=name,
        pgr=0.1,
        stderr=0.1,
        n=N,
        step=0.05,
        improved=False,
        submissions_left=None,
        isolation="bubblewrap",
    )
    at = f"2026-01-01T{(minute or number) // 60:02}:{(minute or number) % 60:02}:00+00:00"
    shown = ShownScore(
        submission=name, task="t", method=method or name, snapshot=None, at=at, score=score
    )
    ids = [f"r{i}" for i in range(len(probs_N))]
    return Stored("ann", shown, Predictions(ids, [Run(seed=0, probs=list(map(float, probs_N)))]))


def research(n: int, seed: int = 0) -> list[Stored]:
    """Methods that mostly agree, as they learn from the same labels."""
    rng = np.random.default_rng(seed)
    common_N = rng.random(N)
    return [stored(np.where(rng.random(N) < 0.8, common_N, rng.random(N)), i) for i in range(n)]


def test_ordinary_research_leaves_no_pattern() -> None:
    (found,) = traces(research(40))
    assert (found.few_rows_apart, found.unrelated, found.repeats, found.burst) == (0, 0, 1, 2)


def test_flips_are_counted_also_when_rows_come_in_another_order() -> None:
    base_N = np.random.default_rng(0).random(N)
    items = []
    for row in range(20):
        flipped_N = base_N.copy()
        flipped_N[row] = 1 - flipped_N[row]
        item = stored(flipped_N, row)
        order = np.random.default_rng(row).permutation(N)
        ids, runs = item.predictions
        mixed = [Run(seed=0, probs=[runs[0].probs[i] for i in order])]
        items.append(item._replace(predictions=Predictions([ids[i] for i in order], mixed)))
    (found,) = traces(items)
    assert found.few_rows_apart == 19


def test_random_vectors_agree_with_nothing() -> None:
    rng = np.random.default_rng(0)
    (found,) = traces([stored(rng.random(N), i) for i in range(30)])
    assert found.unrelated >= 25 and found.few_rows_apart == 0


def test_repeats_and_bursts_are_counted() -> None:
    (found,) = traces([stored(np.full(N, 0.9), i, method="same", minute=5) for i in range(12)])
    assert (found.repeats, found.burst, found.few_rows_apart) == (12, 12, 0)


def test_aars_and_tasks_are_kept_apart() -> None:
    items = research(4)
    other = [item._replace(aar="ben") for item in items]
    assert [(t.aar, t.n) for t in traces(items + other)] == [("ann", 4), ("ben", 4)]


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=8))
def test_any_submissions_can_be_traced(vectors: list[list[float]]) -> None:
    (found,) = traces([stored(np.array(v), i) for i, v in enumerate(vectors)])
    assert 0 <= found.few_rows_apart < len(vectors) and found.n == len(vectors)
