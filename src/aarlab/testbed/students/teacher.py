"""Weak teachers and ceilings: the two baselines between which a PGR is measured.

    teacher = train(weak, seed.inputs, seed.targets)
    weak_labels = predict_soft(teacher, task.inputs)
    ceiling = train(strong, task.inputs, true_targets)

It runs in an operator's process only: no other part of the test bed trains on true targets.

Cross-fitting uses folds by problem, so a row is never predicted by a model that saw its problem.

A teacher that skims reads a random share of an answer's words without their context. Its input is
the mean embedding of the tokens that it saw. Which ones it saw depends on its seed and on the
answer alone: it judges the same answer alike each time, and another skimmer sees other words. No
forward pass is made.

Legend: N rows, A answers, D width, V vocabulary, M answers.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import BadInput
from aarlab.core.types import Example
from aarlab.testbed.models.answers import AnswerItem
from aarlab.testbed.students.features import ModelSource
from aarlab.testbed.students.options import TeacherOptions
from aarlab.testbed.students.student import Student, StudentFactory
from aarlab.testbed.students.train import Floats, Head, fit_head, sigmoid

__all__ = ["Teacher", "TeacherOptions", "TeacherRows", "fit_ceiling", "fit_teacher"]


Ints = NDArray[np.int64]
Floats64 = NDArray[np.float64]


def fold_of_rows(groups_N: Sequence[str], folds: int, seed: int) -> Ints:
    """Return the fold of each row (N,); rows of one group share it.

    Fold sizes differ by as little as groups allow.
    """
    names = list(dict.fromkeys(groups_N))
    if len(names) < folds:
        raise BadInput(f"{len(names)} problems cannot make {folds} folds: use fewer folds")
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of = {names[group]: place % folds for place, group in enumerate(order)}
    return np.array([fold_of[group] for group in groups_N], dtype=np.int64)


def cross_fit(fold_N: Ints, fit_predict: Callable[[Ints, Ints], NDArray[np.floating]]) -> Floats64:
    """Return out-of-fold predictions (N,).

    `fit_predict(train_rows, held_out_rows)` is called once per fold.
    """
    out_N = np.full(len(fold_N), np.nan)
    for fold in np.unique(fold_N):
        out_N[fold_N == fold] = fit_predict(
            np.flatnonzero(fold_N != fold), np.flatnonzero(fold_N == fold)
        )
    return out_N


TEMPERATURES = (0.2, 20.0)


@dataclass(frozen=True, slots=True)
class TeacherRows:
    """What a weak teacher learns from.

    It has weak states (N, A, D), true targets (N,) and the problem of each row.
    """

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
        """Return log-odds with the noise added; `shrink` keeps them calibrated."""
        if self.sd == 0:
            return logits_N
        draws_N = [_draw(self.seed, state_AD) for state_AD in states_NAD]
        blurred_N = (logits_N + self.sd * np.array(draws_N)) * self.shrink
        return np.asarray(blurred_N, dtype=np.float32)


def _draw(seed: int, state_AD: Floats) -> float:
    """Draw a standard normal that depends only on the teacher's seed and the row's states."""
    row = zlib.crc32(np.ascontiguousarray(state_AD, np.float32).tobytes())
    return float(np.random.default_rng([seed, row]).standard_normal())


@dataclass(frozen=True, slots=True)
class Teacher:
    """A head, the temperature that its logits are divided by, and the noise it reads with."""

    head: Head
    temperature: float
    noise: Noise = Noise(0.0, 0)

    def predict_proba(self, states_NAD: Floats) -> Floats:
        """Return calibrated P(label 1), shape (N,), the soft labels; equal rows get equal ones."""
        logits_N = self.head.logits(states_NAD) / np.float32(self.temperature)
        return sigmoid(self.noise.blur(logits_N, states_NAD))


def fit_teacher(rows: TeacherRows, options: TeacherOptions, seed: int) -> Teacher:
    """Train a teacher on the share of problems that its seed draws.

    It is calibrated on out-of-fold logits.
    """
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
    """Return the teacher with noise added.

    Its standard deviation is `noise` times the spread of the log-odds on the rows it learned from.
    """
    if noise == 0:
        return teacher
    spread = float(np.std(teacher.head.logits(states_NAD))) / teacher.temperature
    return replace(teacher, noise=Noise(noise * spread, seed, 1 / (1 + noise**2)))


def fit_temperature(logits_N: NDArray[np.floating], targets_N: NDArray[np.floating]) -> float:
    """Return the T that minimises the mean CE of sigmoid(logits / T), within TEMPERATURES."""
    from scipy.optimize import minimize_scalar  # slow to load

    def mean_ce(log_t: float) -> float:
        scaled_N = logits_N / np.exp(log_t)
        return float(np.mean(np.logaddexp(0, scaled_N) - targets_N * scaled_N))

    low, high = np.log(TEMPERATURES)
    return float(np.exp(minimize_scalar(mean_ce, bounds=(low, high), method="bounded").x))


def fit_ceiling(
    factory: StudentFactory, inputs: Sequence[Example], targets_N: NDArray[np.int8], seed: int
) -> Student:
    """Train a strong student of the task's adaptation on ground truth."""
    seeded = factory.options.model_copy(update={"seed": seed})
    return factory.new(seeded).fit(inputs, targets_N.astype(np.float64))


def n_drawn(n_problems: int, share: float) -> int:
    """Return how many of `n_problems` a teacher sees that sees this share of them."""
    return min(n_problems, max(2, round(share * n_problems)))


def draw_problems(groups_N: Sequence[str], share: float, seed: int) -> NDArray[np.int64]:
    """Return the places of the rows whose problems this seed draws."""
    names = list(dict.fromkeys(groups_N))
    rng = np.random.default_rng([seed, 1])
    drawn = {names[i] for i in rng.permutation(len(names))[: n_drawn(len(names), share)]}
    return np.array([i for i, group in enumerate(groups_N) if group in drawn], dtype=np.int64)


_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # of splitmix64


class Skimmer:
    """Reads `share` of the tokens of each answer, at least one, with the model's embeddings."""

    def __init__(self, source: ModelSource, share: float) -> None:
        self._source, self.share = source, share
        self._known: dict[AnswerItem, NDArray[np.int32]] = {}

    def states(self, examples: Sequence[Example], seed: int) -> Floats:
        """Return the mean embedding (N, A, D) of the tokens that this seed sees of each answer."""
        items = [AnswerItem(row.prompt, answer) for row in examples for answer in row.answers]
        self._read(items)
        embedding_VD = self._source.language_model().embeddings()
        seen = [self._seen(self._known[item], seed) for item in items]
        states_MD = np.stack([embedding_VD[ids].mean(axis=0) for ids in seen])
        return np.asarray(states_MD.reshape(len(examples), -1, states_MD.shape[1]), np.float32)

    def _read(self, items: Sequence[AnswerItem]) -> None:
        new = list(dict.fromkeys(item for item in items if item not in self._known))
        for item, row in zip(new, self._source.lower_rows(new, 0), strict=True):
            self._known[item] = row.tail().ids_T

    def _seen(self, ids_T: NDArray[np.int32], seed: int) -> NDArray[np.int32]:
        """Return the tokens with the smallest draws; draws follow from seed, answer and place."""
        answer = zlib.crc32(ids_T.tobytes())
        start = np.uint64((seed % 2**32 << 32) ^ answer)
        draws_T = _mixed(start, np.arange(len(ids_T), dtype=np.uint64))
        n_seen = max(1, round(self.share * len(ids_T)))
        return ids_T[np.argsort(draws_T, kind="stable")[:n_seen]]


def _mixed(start: np.uint64, places_T: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a uniform 64-bit number for each place (splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        mixed_T = start + (places_T + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        mixed_T = (mixed_T ^ (mixed_T >> np.uint64(30))) * _MIX[0]
        mixed_T = (mixed_T ^ (mixed_T >> np.uint64(27))) * _MIX[1]
        return mixed_T ^ (mixed_T >> np.uint64(31))
