"""Stage select: which train rows the student learns from, as sorted indices."""

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import MethodFailed
from aarlab.testbed.folds import Ints
from aarlab.testbed.stages.run import Floats64, RecipeRun

MIN_ROWS = 8
CHUNK = 1024  # rows per block of the distance matrix


def select_rows(run: RecipeRun, labels_N: Floats64) -> Ints:
    """Indices of the kept rows; raises MethodFailed when they cannot train a student."""
    stage = run.recipe.select
    confidence_N = np.abs(labels_N - 0.5)
    if stage.kind == "all":
        rows = np.arange(len(labels_N))
    elif stage.kind == "confident":
        rows = _top(confidence_N, labels_N, stage.keep, stage.balanced)
    elif stage.kind == "threshold":
        rows = np.flatnonzero(confidence_N > stage.threshold - 0.5)
    elif stage.kind == "agreement":
        rows = np.flatnonzero((run.margins(stage.zero_shot) > 0) == (labels_N > 0.5))
    else:
        states_NAD = run.factory.states(run.task.inputs)
        score_N = neighbour_agreement(states_NAD, labels_N > 0.5, stage.k)
        rows = _top(score_N, labels_N, stage.keep, stage.balanced)
    return _enough(rows, labels_N, stage.kind)


def _top(score_N: Floats64, labels_N: Floats64, keep: float, balanced: bool) -> Ints:
    """The `keep` share with the highest score, of all rows or of each labelled class."""
    everyone = np.arange(len(labels_N))
    positive_N = labels_N > 0.5
    parts = [everyone[positive_N], everyone[~positive_N]] if balanced else [everyone]
    kept = [
        part[np.argsort(-score_N[part], kind="stable")[: max(1, round(keep * len(part)))]]
        for part in parts
        if len(part)
    ]
    return np.sort(np.concatenate(kept))


def neighbour_agreement(
    states_NAD: NDArray[np.float32], positive_N: NDArray[np.bool_], k: int
) -> Floats64:
    """Share of a row's k nearest neighbours (cosine, itself left out) with the same label, (N,).

    A preference row stands as the difference of its answers' states; its mirror image (answers
    swapped) stands for the other label and counts as a neighbour too.
    """
    n, answers, _ = states_NAD.shape
    centred_NAD = states_NAD - states_NAD.mean(axis=(0, 1))
    points_ND = centred_NAD[:, 0] - centred_NAD[:, 1] if answers == 2 else centred_NAD[:, 0]
    points_ND = points_ND / np.maximum(np.linalg.norm(points_ND, axis=1, keepdims=True), 1e-9)
    bank_MD = np.concatenate([points_ND, -points_ND]) if answers == 2 else points_ND
    label_M = np.concatenate([positive_N, ~positive_N]) if answers == 2 else positive_N
    k = min(k, len(bank_MD) - 2)
    share_N = np.empty(n)
    for begin in range(0, n, CHUNK):
        block = np.arange(begin, min(begin + CHUNK, n))
        cosine_BM = points_ND[block] @ bank_MD.T
        cosine_BM[np.arange(len(block)), block] = -np.inf
        nearest_BK = np.argpartition(-cosine_BM, k, axis=1)[:, :k]
        share_N[block] = (label_M[nearest_BK] == positive_N[block, None]).mean(axis=1)
    return share_N


def _enough(rows: Ints, labels_N: Floats64, kind: str) -> Ints:
    n_positive = int((labels_N[rows] > 0.5).sum())
    if len(rows) < MIN_ROWS or n_positive in (0, len(rows)):
        raise MethodFailed(
            f"select {kind} keeps {len(rows)} of {len(labels_N)} rows, {n_positive} of label 1: it "
            f"needs {MIN_ROWS} rows and both labels; keep more"
        )
    return rows
