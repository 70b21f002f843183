"""Cross-fitting: folds by problem, so that no row is predicted by a model that saw its problem."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import BadInput

Ints = NDArray[np.int64]
Floats64 = NDArray[np.float64]


def fold_of_rows(groups_N: Sequence[str], folds: int, seed: int) -> Ints:
    """Fold of each row (N,); rows of one group share it; fold sizes differ by as little as groups
    allow."""
    names = list(dict.fromkeys(groups_N))
    if len(names) < folds:
        raise BadInput(f"{len(names)} problems cannot make {folds} folds: use fewer folds")
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {names[group]: place % folds for place, group in enumerate(order)}
    return np.array([fold_of[group] for group in groups_N], dtype=np.int64)


def cross_fit(fold_N: Ints, fit_predict: Callable[[Ints, Ints], NDArray[np.floating]]) -> Floats64:
    """Out-of-fold predictions (N,): `fit_predict(train_rows, held_out_rows)` once per fold."""
    out_N = np.full(len(fold_N), np.nan)
    for fold in np.unique(fold_N):
        out_N[fold_N == fold] = fit_predict(
            np.flatnonzero(fold_N != fold), np.flatnonzero(fold_N == fold)
        )
    return out_N
