"""Weak teachers and ceilings: the two baselines between which a PGR is measured.

    teacher = train(weak, seed.inputs, seed.targets); weak_labels = predict_soft(teacher,
    task.inputs) ceiling = train(strong, task.inputs, true_targets)

Runs in an operator's process only: it is the one place of the test bed that trains on true targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from aarlab.testbed.folds import cross_fit, fold_of_rows
from aarlab.testbed.losses import Floats, sigmoid
from aarlab.testbed.options import HeadOptions, TeacherOptions
from aarlab.testbed.train import Head, fit_head

__all__ = ["Teacher", "TeacherOptions", "TeacherRows", "fit_ceiling", "fit_teacher"]
TEMPERATURES = (0.2, 20.0)


@dataclass(frozen=True, slots=True)
class TeacherRows:
    """What a weak teacher learns from: weak states (N, A, D), true targets (N,), problem of each
    row."""

    states_NAD: Floats
    targets_N: NDArray[np.int8]
    groups_N: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Teacher:
    """A head and the temperature that its logits are divided by."""

    head: Head
    temperature: float

    def predict_proba(self, states_NAD: Floats) -> Floats:
        """Calibrated P(label 1), shape (N,): the soft labels."""
        return sigmoid(self.head.logits(states_NAD) / np.float32(self.temperature))


def fit_teacher(rows: TeacherRows, options: TeacherOptions, seed: int) -> Teacher:
    """Train on the share of problems that this seed draws; calibrate on out-of-fold logits."""
    drawn_N = _draw_problems(rows.groups_N, options.share, seed)
    states_NAD, targets_N = rows.states_NAD[drawn_N], rows.targets_N[drawn_N].astype(np.float64)
    head_options = options.head.model_copy(update={"seed": seed})
    head = fit_head(states_NAD, targets_N, head_options)
    if not options.calibrate:
        return Teacher(head, 1.0)

    def held_out_logits(train: NDArray[np.int64], held_out: NDArray[np.int64]) -> Floats:
        return fit_head(states_NAD[train], targets_N[train], head_options).logits(
            states_NAD[held_out]
        )

    fold_N = fold_of_rows([rows.groups_N[i] for i in drawn_N], options.folds, seed)
    return Teacher(head, fit_temperature(cross_fit(fold_N, held_out_logits), targets_N))


def fit_temperature(logits_N: NDArray[np.floating], targets_N: NDArray[np.floating]) -> float:
    """The T that minimises the mean CE of sigmoid(logits / T), within TEMPERATURES."""

    def mean_ce(log_t: float) -> float:
        scaled_N = logits_N / np.exp(log_t)
        return float(np.mean(np.logaddexp(0, scaled_N) - targets_N * scaled_N))

    low, high = np.log(TEMPERATURES)
    return float(np.exp(minimize_scalar(mean_ce, bounds=(low, high), method="bounded").x))


def fit_ceiling(
    states_NAD: Floats, targets_N: NDArray[np.int8], options: HeadOptions, seed: int
) -> Head:
    """The strong student's head trained on ground truth."""
    seeded = options.model_copy(update={"seed": seed})
    return fit_head(states_NAD, targets_N.astype(np.float64), seeded)


def _draw_problems(groups_N: Sequence[str], share: float, seed: int) -> NDArray[np.int64]:
    names = list(dict.fromkeys(groups_N))
    n_drawn = max(2, round(share * len(names)))
    rng = np.random.default_rng([seed, 1])
    drawn = {names[i] for i in rng.permutation(len(names))[:n_drawn]}
    return np.array([i for i, group in enumerate(groups_N) if group in drawn], dtype=np.int64)
