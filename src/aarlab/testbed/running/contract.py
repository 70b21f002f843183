"""The contract of a method: `fit(task, student, seed) -> Predictor`, and its check."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import MethodFailed
from aarlab.core.types import Example
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.tasks.train_task import TrainTask


class Predictor(Protocol):
    """What `fit` returns."""

    def predict_proba(self, inputs: Sequence[Example]) -> NDArray[np.floating]:
        """Return P(label 1) for each input, shape (N,)."""
        ...


Fit = Callable[[TrainTask, StudentFactory, int], Predictor]
"""The one function of a method: `fit(task, student, seed)`. It returns a predictor."""


def checked_predictions(predictor: Predictor, inputs: Sequence[Example]) -> NDArray[np.float64]:
    """Return predictions (N,) that keep the contract.

    Raises MethodFailed naming the broken rule. The predictor's `where` (the author's line) is
    appended to the message if it has one.
    """
    predict = getattr(predictor, "predict_proba", None)
    if not callable(predict):
        kind = type(predictor).__name__
        raise MethodFailed(f"fit returned a {kind}: it must have predict_proba(inputs)")
    where = getattr(predictor, "where", "")
    returned = predict(tuple(inputs))
    try:
        probs_N = np.asarray(returned, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise MethodFailed(f"predict_proba: {type(error).__name__}: {error}{where}") from error
    if probs_N.shape != (len(inputs),):
        raise MethodFailed(
            f"predict_proba: shape {probs_N.shape}, expected ({len(inputs)},){where}"
        )
    wrong = np.flatnonzero(~((probs_N >= 0) & (probs_N <= 1)))
    if len(wrong):
        raise MethodFailed(
            f"predict_proba: {len(wrong)} of {len(probs_N)} values are not in [0, 1], first "
            f"{probs_N[wrong[0]]} for row {inputs[wrong[0]].id!r}{where}"
        )
    return probs_N
