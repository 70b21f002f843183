"""Weak teachers and ceilings: the two baselines between which a PGR is measured.

    teacher = train(weak, seed.inputs, seed.targets); weak_labels = predict_soft(teacher,
    task.inputs) ceiling = train(strong, task.inputs, true_targets)

Runs in an operator's process only: it is the one place of the test bed that trains on true targets.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aarlab.core.types import Example
from aarlab.testbed.folds import cross_fit, fold_of_rows
from aarlab.testbed.losses import Floats, sigmoid
from aarlab.testbed.options import TeacherOptions
from aarlab.testbed.student import Student, StudentFactory
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
class Noise:
    """Gaussian noise of standard deviation `sd` on log-odds, seeded by the teacher and the row."""

    sd: float
    seed: int
    shrink: float = 1.0

    def blur(self, logits_N: Floats, states_NAD: Floats) -> Floats:
        """Log-odds of a hasty reader; `shrink` keeps them calibrated."""
        if self.sd == 0:
            return logits_N
        draws_N = [_draw(self.seed, state_AD) for state_AD in states_NAD]
        blurred_N = (logits_N + self.sd * np.array(draws_N)) * self.shrink
        return np.asarray(blurred_N, dtype=np.float32)


def _draw(seed: int, state_AD: Floats) -> float:
    """A standard normal that depends on the teacher's seed and the row's states alone."""
    row = zlib.crc32(np.ascontiguousarray(state_AD, np.float32).tobytes())
    return float(np.random.default_rng([seed, row]).standard_normal())


@dataclass(frozen=True, slots=True)
class Teacher:
    """A head, the temperature that its logits are divided by, and the noise it reads with."""

    head: Head
    temperature: float
    noise: Noise = Noise(0.0, 0)

    def predict_proba(self, states_NAD: Floats) -> Floats:
        """Calibrated P(label 1), shape (N,): the soft labels; the same for the same rows."""
        logits_N = self.head.logits(states_NAD) / np.float32(self.temperature)
        return sigmoid(self.noise.blur(logits_N, states_NAD))


def fit_teacher(rows: TeacherRows, options: TeacherOptions, seed: int) -> Teacher:
    """Train on the share of problems that this seed draws; calibrate on out-of-fold logits."""
    drawn_N = draw_problems(rows.groups_N, options.share, seed)
    states_NAD, targets_N = rows.states_NAD[drawn_N], rows.targets_N[drawn_N].astype(np.float64)
    head_options = options.head.model_copy(update={"seed": seed})
    head = fit_head(states_NAD, targets_N, head_options)
    if not options.calibrate:
        return _hasty(Teacher(head, 1.0), states_NAD, options.noise, seed)

    def held_out_logits(train: NDArray[np.int64], held_out: NDArray[np.int64]) -> Floats:
        return fit_head(states_NAD[train], targets_N[train], head_options).logits(
            states_NAD[held_out]
        )

    fold_N = fold_of_rows([rows.groups_N[i] for i in drawn_N], options.folds, seed)
    temperature = fit_temperature(cross_fit(fold_N, held_out_logits), targets_N)
    return _hasty(Teacher(head, temperature), states_NAD, options.noise, seed)


def _hasty(teacher: Teacher, states_NAD: Floats, noise: float, seed: int) -> Teacher:
    """The teacher with `noise` times the spread of its log-odds on the rows it learned from."""
    if noise == 0:
        return teacher
    spread = float(np.std(teacher.head.logits(states_NAD))) / teacher.temperature
    return replace(teacher, noise=Noise(noise * spread, seed, 1 / (1 + noise**2)))


def fit_temperature(logits_N: NDArray[np.floating], targets_N: NDArray[np.floating]) -> float:
    """The T that minimises the mean CE of sigmoid(logits / T), within TEMPERATURES."""
    from scipy.optimize import minimize_scalar  # slow to load

    def mean_ce(log_t: float) -> float:
        scaled_N = logits_N / np.exp(log_t)
        return float(np.mean(np.logaddexp(0, scaled_N) - targets_N * scaled_N))

    low, high = np.log(TEMPERATURES)
    return float(np.exp(minimize_scalar(mean_ce, bounds=(low, high), method="bounded").x))


def fit_ceiling(
    factory: StudentFactory, inputs: Sequence[Example], targets_N: NDArray[np.int8], seed: int
) -> Student:
    """A strong student of the task's adaptation trained on ground truth."""
    seeded = factory.options.model_copy(update={"seed": seed})
    return factory.new(seeded).fit(inputs, targets_N.astype(np.float64))


def draw_problems(groups_N: Sequence[str], share: float, seed: int) -> NDArray[np.int64]:
    """Places of the rows whose problems this seed draws."""
    names = list(dict.fromkeys(groups_N))
    n_drawn = max(2, round(share * len(names)))
    rng = np.random.default_rng([seed, 1])
    drawn = {names[i] for i in rng.permutation(len(names))[:n_drawn]}
    return np.array([i for i, group in enumerate(groups_N) if group in drawn], dtype=np.int64)
