"""Figures about a run that need no label. They explain; nothing is ranked by them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aarlab.core.types import Example
from aarlab.testbed.contract import Predictor, checked_predictions
from aarlab.testbed.stages.zero_shot import ZeroShot
from aarlab.testbed.student import StudentFactory
from aarlab.testbed.task import TrainTask

MAX_ROWS = 400
CLIP = 1e-4


def diagnose(
    predictor: Predictor, task: TrainTask, student: StudentFactory, rows: Sequence[Example]
) -> dict[str, float]:
    """Agreement with teacher and zero-shot model, misfit KL(w || p), confidence, swap gap.

    Teacher figures are over (at most 400) train rows, the others over evaluation rows.
    """
    rows, train = rows[:MAX_ROWS], task.inputs[:MAX_ROWS]
    train_N, rows_N = checked_predictions(predictor, train), checked_predictions(predictor, rows)
    weak_N = task.weak_labels_N[: len(train)]
    zero_shot = ZeroShot(student.zero_shot(task.inputs), float(task.weak_labels_N.mean()))
    margins_N = zero_shot.margins(student.zero_shot(rows), "pmi")
    facts = {
        "agrees_with_teacher": _share((train_N > 0.5) == (weak_N > 0.5)),
        "misfit": _kl(weak_N, train_N),
        "agrees_with_zero_shot": _share((rows_N > 0.5) == (margins_N > 0)),
        "confidence": float(np.abs(2 * rows_N - 1).mean()),
        "share_of_label_1": _share(rows_N > 0.5),
    }
    if task.kind == "preference":
        swapped = [example.swapped() for example in rows]
        facts["swap_gap"] = float(
            np.abs(rows_N + checked_predictions(predictor, swapped) - 1).mean()
        )
    return facts


def _share(hits_N: NDArray[np.bool_]) -> float:
    return float(hits_N.mean())


def _kl(weak_N: NDArray[np.float64], student_N: NDArray[np.float64]) -> float:
    w, p = np.clip(weak_N, CLIP, 1 - CLIP), np.clip(student_N, CLIP, 1 - CLIP)
    return float((w * np.log(w / p) + (1 - w) * np.log((1 - w) / (1 - p))).mean())
