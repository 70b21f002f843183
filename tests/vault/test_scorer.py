"""Joins by id, refusals that hold no label, exact figures that fit the truth."""

import math
import traceback
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from platform_kit import TinyTask, write_task

from aarlab.core.errors import BadInput, NotFound
from aarlab.core.wire import Predictions, Run
from aarlab.vault.scorer import Scorer, stack
from aarlab.vault.vault import Vault

N = 40


@cache
def tiny() -> tuple[TinyTask, Scorer]:
    task = write_task(Path(mkdtemp()), n=N)
    return task, Scorer(Vault(task.data))


@given(order=st.permutations(range(N)), seed=st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_the_order_of_rows_does_not_matter(order: list[int], seed: int) -> None:
    task, scorer = tiny()
    ids = task.ids()
    probs_SN = np.random.default_rng(seed).random((2, N))
    straight = scorer.correct(task.name, "search", ids, probs_SN)
    shuffled = scorer.correct(task.name, "search", [ids[i] for i in order], probs_SN[:, order])
    truth_N = np.array(list(task.labels["search"].values()))
    assert (straight == shuffled).all()
    assert (straight == ((probs_SN > 0.5) == (truth_N == 1))).all()


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_fault_in_the_ids_is_refused_alike_for_every_label(data) -> None:
    """The message is a function of ids and shape: the same for two opposite predictions."""
    task, scorer = tiny()
    ids, row = task.ids(), data.draw(st.integers(0, N - 1))
    fault = data.draw(st.sampled_from(["missing", "double", "unknown", "empty"]))
    bad = list(ids)
    if fault == "missing":
        del bad[row]
    elif fault == "double":
        bad[row] = bad[row - 1]
    elif fault == "unknown":
        bad[row] = data.draw(st.text(max_size=80))
    else:
        bad = []
    messages = []
    for value in (0.0, 1.0):
        with pytest.raises(BadInput, match=r"expected its 40 ids, each once") as caught:
            scorer.correct(task.name, "search", bad, np.full((1, len(bad)), value))
        messages.append(str(caught.value))
    assert messages[0] == messages[1] and len(messages[0]) < 600


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.1, 1.1])
def test_what_is_no_probability_is_refused(value: float) -> None:
    task, scorer = tiny()
    probs_SN = np.full((1, N), 0.3)
    probs_SN[0, 5] = value
    with pytest.raises(BadInput, match="from 0 to 1"):
        scorer.correct(task.name, "search", task.ids(), probs_SN)


@pytest.mark.parametrize("shape", [(N,), (1, N - 1), (0, N), (1, N, 1)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    task, scorer = tiny()
    with pytest.raises(BadInput, match=r"shape \(S, 40\)"):
        scorer.correct(task.name, "search", task.ids(), np.zeros(shape))


def test_another_splits_ids_are_refused() -> None:
    task, scorer = tiny()
    with pytest.raises(BadInput, match="40 unknown"):
        scorer.correct(task.name, "selection", task.ids("search"), np.zeros((1, N)))


def test_unknown_tasks_and_unscored_splits() -> None:
    task, scorer = tiny()
    with pytest.raises(NotFound, match="tiny"):
        scorer.correct("other", "search", task.ids(), np.zeros((1, N)))
    with pytest.raises(NotFound):
        scorer.correct("../tiny", "search", task.ids(), np.zeros((1, N)))
    with pytest.raises(BadInput, match="not scored"):
        scorer.correct(task.name, "train", task.ids(), np.zeros((1, N)))


def test_runs_must_have_one_length_and_distinct_seeds() -> None:
    with pytest.raises(BadInput, match="one length"):
        stack([Run(seed=0, probs=[0.1]), Run(seed=1, probs=[0.1, 0.2])])
    with pytest.raises(BadInput, match="each seed once"):
        stack([Run(seed=0, probs=[0.1]), Run(seed=0, probs=[0.1])])
    with pytest.raises(BadInput):
        stack([])


def test_the_estimate_is_of_the_known_accuracy() -> None:
    task, scorer = tiny()
    runs = [Run(seed=s, probs=task.probs("selection", 0.75, s)) for s in range(3)]
    predictions = Predictions(task.ids("selection"), runs)
    base = scorer.baselines(task.name, "selection")
    interval = scorer.estimate(task.name, "selection", predictions)
    assert scorer.accuracy(task.name, "selection", predictions) == pytest.approx(0.75)
    assert interval.value == pytest.approx((0.75 - base.weak) / (base.ceiling - base.weak))
    assert interval.low < interval.value < interval.high and interval.n_seeds == 3


def test_a_traceback_of_a_refusal_holds_no_label() -> None:
    task, scorer = tiny()
    with pytest.raises(BadInput) as caught:
        scorer.correct(task.name, "search", task.ids()[1:], np.zeros((1, N - 1)))
    assert "array(" not in "".join(traceback.format_exception(caught.value))


def test_shown_figures_are_on_the_grid() -> None:
    task, scorer = tiny()
    base = scorer.baselines(task.name, "search")
    new = Predictions(task.ids(), [Run(seed=0, probs=task.probs("search", 0.725, 3))])
    feedback = scorer.feedback(task.name, new, None)
    grid = {round((k / 100 - base.weak) / (base.ceiling - base.weak), 2) for k in range(101)}
    assert feedback.pgr in grid and feedback.improved
    assert feedback.stderr == round(feedback.stderr, 2)
    exact = scorer.feedback(task.name, new, None, exact=True)
    assert exact.pgr == scorer.estimate(task.name, "search", new).value
    assert exact.step == 0.0
