"""Stage select: which train rows the student learns from, as sorted indices."""

from typing import NamedTuple

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
        rows = top_rows(confidence_N, labels_N, stage.keep, stage.balanced)
    elif stage.kind == "threshold":
        rows = np.flatnonzero(confidence_N > stage.threshold - 0.5)
    elif stage.kind == "agreement":
        rows = np.flatnonzero((run.margins(stage.zero_shot) > 0) == (labels_N > 0.5))
    else:
        states_NAD = run.factory.states(run.task.inputs)
        score_N = neighbour_agreement(states_NAD, labels_N > 0.5, stage.k)
        rows = top_rows(score_N, labels_N, stage.keep, stage.balanced)
    return _enough(rows, labels_N, stage.kind)


def top_rows(score_N: Floats64, labels_N: Floats64, keep: float, balanced: bool) -> Ints:
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


class Neighbours(NamedTuple):
    """The K nearest of each row, itself left out: `bank_NK` numbers, `cosine_NK`.

    Number N + i stands for the mirror image of preference row i (answers swapped, other label).
    """

    bank_NK: Ints
    cosine_NK: Floats64


def row_points(states_NAD: NDArray[np.float32]) -> NDArray[np.float32]:
    """One standardised vector of length 1 for each row, (N, D); of a preference row, the
    difference. Without the division a few huge features would decide who is near."""
    spread_D = np.maximum(states_NAD.std(axis=(0, 1)), 1e-6)
    centred_NAD = (states_NAD - states_NAD.mean(axis=(0, 1))) / spread_D
    paired = states_NAD.shape[1] == 2
    points_ND = centred_NAD[:, 0] - centred_NAD[:, 1] if paired else centred_NAD[:, 0]
    lengths_N1 = np.linalg.norm(points_ND, axis=1, keepdims=True)
    return np.asarray(points_ND / np.maximum(lengths_N1, 1e-9), np.float32)


def nearest(states_NAD: NDArray[np.float32], k: int) -> Neighbours:
    """Cosine neighbours among the rows and, of preference rows, their mirror images."""
    points_ND = row_points(states_NAD)
    n, paired = len(points_ND), states_NAD.shape[1] == 2
    bank_MD = np.concatenate([points_ND, -points_ND]) if paired else points_ND
    k = min(k, len(bank_MD) - 2)
    found = Neighbours(np.empty((n, k), np.int64), np.empty((n, k)))
    for begin in range(0, n, CHUNK):
        block = np.arange(begin, min(begin + CHUNK, n))
        cosine_BM = points_ND[block] @ bank_MD.T
        cosine_BM[np.arange(len(block)), block] = -np.inf
        bank_BK = np.argpartition(-cosine_BM, k, axis=1)[:, :k]
        found.bank_NK[block] = bank_BK
        found.cosine_NK[block] = np.take_along_axis(cosine_BM, bank_BK, axis=1)
    return found


def neighbour_agreement(
    states_NAD: NDArray[np.float32], positive_N: NDArray[np.bool_], k: int
) -> Floats64:
    """Share of a row's k nearest neighbours with the same label, (N,)."""
    label_M = np.concatenate([positive_N, ~positive_N])
    same_NK = label_M[nearest(states_NAD, k).bank_NK] == positive_N[:, None]
    return np.asarray(same_NK.mean(axis=1))


def _enough(rows: Ints, labels_N: Floats64, kind: str) -> Ints:
    n_positive = int((labels_N[rows] > 0.5).sum())
    if len(rows) < MIN_ROWS or n_positive in (0, len(rows)):
        raise MethodFailed(
            f"select {kind} keeps {len(rows)} of {len(labels_N)} rows, {n_positive} of label 1: it "
            f"needs {MIN_ROWS} rows and both labels; keep more"
        )
    return rows
