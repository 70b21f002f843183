"""The training loop: a head on frozen states, AdamW, minibatches, a linear schedule, float32.

Written out in numpy because a head is two small matrices: a run takes a tenth of a second, starts
without loading torch, and gives the same bits for the same seed.

A preference row is scored as the difference of its answers' scores, so swapping the answers flips
the prediction exactly: every head is swap-consistent by construction.

Losses are on soft binary targets, as value and slope with respect to the logit. The slope is all
that training needs: a head multiplies it through by hand, a torch model takes it as
`logits.backward(slope)`.

Legend: N rows, A answers per row (2 preference, 1 verification), D width of a state, H hidden
units, B rows of a batch; p = sigmoid(logit) is the student, w the target.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import BadInput
from aarlab.testbed.students.options import HeadOptions

__all__ = ["Head", "HeadOptions", "fit_head"]


Floats = NDArray[np.float32]
Between = Callable[[], None]
"""Called between the steps of long work. The student server lets others use the device there."""
RAMP = 0.1  # share of steps over which the auxiliary weight rises (Burns et al. 2023)
CLIP = 1e-3  # targets are kept this far from 0 and 1 where their log-odds are needed


def nothing() -> None:
    """Do nothing between two steps."""


class Batch(NamedTuple):
    """`progress` runs from 0 (first step) to 1; `prior` is the mean target of the training set."""

    logits_B: Floats
    targets_B: Floats
    progress: float
    prior: float


class Loss(NamedTuple):
    """Per row: the value, and its derivative with respect to the logit."""

    value_B: Floats
    slope_B: Floats


def expit(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the sigmoid in double precision, exact in both tails.

    It equals scipy's, which takes half a second to load: each verified run is a process of its own.
    """
    small = np.exp(-np.abs(np.asarray(values, dtype=np.float64)))
    return np.asarray(np.where(values >= 0, 1 / (1 + small), small / (1 + small)))


def sigmoid(logits: Floats) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), dtype=np.float32)


def logit(probs: Floats) -> Floats:
    """Return log-odds of probabilities clipped to [CLIP, 1 - CLIP]."""
    clipped = np.clip(probs, CLIP, 1 - CLIP)
    return np.asarray(np.log(clipped) - np.log1p(-clipped), dtype=np.float32)


def _cross_entropy(logits_B: Floats, targets_B: Floats) -> Loss:
    value_B = np.logaddexp(np.float32(0), logits_B) - targets_B * logits_B
    return Loss(value_B, sigmoid(logits_B) - targets_B)


def ce(batch: Batch, options: HeadOptions) -> Loss:
    """Compute CE(p, w); targets may be hard or soft."""
    return _cross_entropy(batch.logits_B, batch.targets_B)


def auxiliary_weight(progress: float, a_max: float) -> float:
    """Return a weight that rises linearly from 0 to `a_max`.

    It rises over the first 10 % of steps, then stays.
    """
    return a_max * min(progress / RAMP, 1.0)


def aux_confidence(batch: Batch, options: HeadOptions) -> Loss:
    """Compute CE(p, (1-a) w + a 1[p > t]) with the threshold t at the weak prior.

    t is such that the share of positives in the batch is the weak prior.

    Burns et al. 2023, arXiv 2312.09390. Their released code jumps to a_max at the end of the
    warm-up; here a rises linearly, as the paper says. The self-target takes no gradient.
    """
    a = auxiliary_weight(batch.progress, options.a_max)
    n_positive = round(batch.prior * len(batch.logits_B))
    own_B = np.zeros_like(batch.targets_B)
    own_B[np.argsort(-batch.logits_B, kind="stable")[:n_positive]] = 1.0
    return _cross_entropy(batch.logits_B, (1 - a) * batch.targets_B + a * own_B)


def entropy(batch: Batch, options: HeadOptions) -> Loss:
    """Compute (1-a) CE(p, w) + a H(p), a as in aux_confidence.

    The self-target is soft and takes gradient.
    """
    a = np.float32(auxiliary_weight(batch.progress, options.a_max))
    probs_B = sigmoid(batch.logits_B)
    supervised = _cross_entropy(batch.logits_B, batch.targets_B)
    own_value_B = np.logaddexp(np.float32(0), batch.logits_B) - probs_B * batch.logits_B
    own_slope_B = -probs_B * (1 - probs_B) * batch.logits_B
    return Loss(
        (1 - a) * supervised.value_B + a * own_value_B,
        (1 - a) * supervised.slope_B + a * own_slope_B,
    )


def product(batch: Batch, options: HeadOptions) -> Loss:
    """Compute CE(p, q) with q proportional to p^beta w^alpha, gradient stopped through q."""
    mixed_B = options.beta * batch.logits_B + options.alpha * logit(batch.targets_B)
    return _cross_entropy(batch.logits_B, sigmoid(mixed_B))


def window(batch: Batch, options: HeadOptions) -> Loss:
    """Compute CE only where max(p, 1-p) < 0.5 + r.

    Rows that the student is sure about take no gradient.
    """
    unsure_B = np.abs(sigmoid(batch.logits_B) - 0.5) < options.radius
    value_B, slope_B = _cross_entropy(batch.logits_B, batch.targets_B)
    return Loss(value_B * unsure_B, slope_B * unsure_B)


def reverse_kl(batch: Batch, options: HeadOptions) -> Loss:
    """Compute KL(p || w), mode-seeking (arXiv 2502.11107).

    Targets are kept inside [CLIP, 1 - CLIP].
    """
    probs_B, logit_w_B = sigmoid(batch.logits_B), logit(batch.targets_B)
    gap_B = batch.logits_B - logit_w_B
    # KL = p (z - z_w) + softplus(z_w) - softplus(z), z the logit of p
    zero = np.float32(0)
    softplus_w_B, softplus_B = np.logaddexp(zero, logit_w_B), np.logaddexp(zero, batch.logits_B)
    return Loss(probs_B * gap_B + softplus_w_B - softplus_B, probs_B * (1 - probs_B) * gap_B)


def reverse_ce(batch: Batch, options: HeadOptions) -> Loss:
    """Compute CE(w, p), the roles swapped: -p log w - (1-p) log(1-w) (arXiv 2505.24313).

    It is bounded in p, so a wrong label cannot pull without end. Targets are inside [CLIP, 1 -
    CLIP].
    """
    probs_B, logit_w_B = sigmoid(batch.logits_B), logit(batch.targets_B)
    # -log(1-w) = softplus(z_w), and -log w = softplus(z_w) - z_w
    value_B = np.logaddexp(np.float32(0), logit_w_B) - probs_B * logit_w_B
    return Loss(value_B, -probs_B * (1 - probs_B) * logit_w_B)


LOSSES: dict[str, Callable[[Batch, HeadOptions], Loss]] = {
    "ce": ce,
    "aux_confidence": aux_confidence,
    "entropy": entropy,
    "product": product,
    "window": window,
    "reverse_kl": reverse_kl,
    "reverse_ce": reverse_ce,
}


BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
SIGNS = {1: np.ones(1, np.float32), 2: np.array([1.0, -1.0], np.float32)}


@dataclass(frozen=True, slots=True)
class Head:
    """A trained head. `theta` holds all weights in one vector; `losses` the mean loss per epoch."""

    mean_D: Floats
    scale_D: Floats
    theta: Floats
    hidden: int
    losses: tuple[float, ...]

    def logits(self, states_NAD: Floats) -> Floats:
        """Return log-odds of label 1, shape (N,).

        Raises BadInput when the width differs from training.
        """
        check_states(states_NAD)
        if states_NAD.shape[2] != len(self.mean_D):
            raise BadInput(f"states of width {states_NAD.shape[2]}, trained on {len(self.mean_D)}")
        weights = HeadWeights(self.theta, len(self.mean_D), self.hidden)
        return weights.forward(standardised(states_NAD, self.mean_D, self.scale_D))[0]

    def predict_proba(self, states_NAD: Floats) -> Floats:
        """Return P(label 1), shape (N,)."""
        return sigmoid(self.logits(states_NAD))


class HeadWeights:
    """Views into one flat vector.

    They are `hidden_DH` and `bias_H` (absent in a linear head), `out_K` and `bias`.
    """

    def __init__(self, theta: Floats, width: int, hidden: int) -> None:
        inner = width * hidden
        self.hidden_DH = theta[:inner].reshape(width, hidden)
        self.bias_H = theta[inner : inner + hidden]
        self.out_K = theta[inner + hidden : -1]
        self.bias = theta[-1:]

    @staticmethod
    def size(width: int, hidden: int) -> int:
        return width * hidden + hidden + (hidden or width) + 1

    def forward(self, inputs_NAD: Floats) -> tuple[Floats, Floats]:
        """Return logits (N,), and what the last layer saw, (N A, K)."""
        n, answers, width = inputs_NAD.shape
        last_MK = inputs_NAD.reshape(n * answers, width)
        if self.hidden_DH.size:
            last_MK = last_MK @ self.hidden_DH
            last_MK += self.bias_H
            np.maximum(last_MK, 0.0, out=last_MK)
        scores_NA = (last_MK @ self.out_K + self.bias).reshape(n, answers)
        return scores_NA @ SIGNS[answers], last_MK

    def backward(self, inputs_BAD: Floats, last_MK: Floats, slope_B: Floats, into: Floats) -> None:
        """Write the gradient of sum(slope * logit) into the flat vector `into`."""
        batch, answers, width = inputs_BAD.shape
        grad = HeadWeights(into, width, len(self.bias_H))
        slope_M = (slope_B[:, None] * SIGNS[answers]).reshape(batch * answers)
        np.dot(slope_M, last_MK, out=grad.out_K)
        grad.bias[0] = slope_M.sum()
        if self.hidden_DH.size:
            slope_MH = slope_M[:, None] * self.out_K
            slope_MH *= last_MK > 0
            np.dot(inputs_BAD.reshape(batch * answers, width).T, slope_MH, out=grad.hidden_DH)
            slope_MH.sum(axis=0, out=grad.bias_H)


class AdamW:
    """AdamW: decoupled weight decay on the matrices, none on biases (Loshchilov and Hutter 2019).

    A step writes into two buffers: fresh arrays of this size would cost as much as the arithmetic.
    """

    def __init__(self, theta: Floats, width: int, options: HeadOptions) -> None:
        self.theta, self.first, self.second = theta, np.zeros_like(theta), np.zeros_like(theta)
        self.decayed = HeadWeights(theta, width, options.hidden)
        self.decay, self.step_number = options.weight_decay, 0
        self._one, self._other = np.empty_like(theta), np.empty_like(theta)

    def step(self, grad: Floats, lr: float) -> None:
        self.step_number += 1
        change, spread = self._one, self._other
        for matrix in (self.decayed.hidden_DH, self.decayed.out_K):
            matrix *= np.float32(1 - lr * self.decay)
        np.subtract(grad, self.first, out=change)
        change *= np.float32(1 - BETA_1)
        self.first += change
        np.multiply(grad, grad, out=change)
        change -= self.second
        change *= np.float32(1 - BETA_2)
        self.second += change
        np.divide(self.second, np.float32(1 - BETA_2**self.step_number), out=spread)
        np.sqrt(spread, out=spread)
        spread += np.float32(EPSILON)
        np.multiply(self.first, np.float32(lr / (1 - BETA_1**self.step_number)), out=change)
        change /= spread
        self.theta -= change


def fit_head(
    states_NAD: Floats,
    targets_N: NDArray[np.floating],
    options: HeadOptions,
    weights_N: NDArray[np.floating] | None = None,
    start: Head | None = None,
    between: Between = nothing,
) -> Head:
    """Train a head on states (N, A, D) and soft targets (N,) in [0, 1].

    Row weights are scaled to mean 1. Features are standardised with the training rows only. With
    `start` training continues from that head: its standardisation and size are kept, and the
    optimiser starts again. `between` is called after each epoch. Raises BadInput on bad shapes.
    """
    check_states(states_NAD)
    targets_N = checked_targets(len(states_NAD), targets_N)
    row_weights_N = checked_weights(len(targets_N), weights_N)
    rng = np.random.default_rng(options.seed)
    head = start or fresh_head(states_NAD, options.hidden, rng)
    if head.hidden != options.hidden:
        raise BadInput(f"cannot continue with {options.hidden} hidden units: it has {head.hidden}")
    inputs_NAD = standardised(states_NAD, head.mean_D, head.scale_D)
    theta = head.theta.copy()
    losses = list(head.losses)
    for loss in _epochs(inputs_NAD, targets_N, row_weights_N, theta, options, rng):
        losses.append(loss)
        between()
    return Head(head.mean_D, head.scale_D, theta, head.hidden, tuple(losses))


def _epochs(
    inputs_NAD: Floats,
    targets_N: Floats,
    weights_N: Floats,
    theta: Floats,
    options: HeadOptions,
    rng: np.random.Generator,
) -> Iterator[float]:
    """Update theta in place; yield the mean weighted loss of each epoch."""
    n, _, width = inputs_NAD.shape
    weights, grad = HeadWeights(theta, width, options.hidden), np.zeros_like(theta)
    optimiser, loss_of = AdamW(theta, width, options), LOSSES[options.loss]
    smoothed_N = (1 - options.smoothing) * targets_N + np.float32(options.smoothing / 2)
    prior = float(targets_N.mean())
    n_steps, step = options.epochs * -(-n // options.batch), 0
    for _ in range(options.epochs):
        order_N, total = rng.permutation(n), 0.0
        for begin in range(0, n, options.batch):
            rows = order_N[begin : begin + options.batch]
            inputs_BAD = inputs_NAD[rows]
            logits_B, last_MK = weights.forward(inputs_BAD)
            progress = step / n_steps
            loss = loss_of(Batch(logits_B, smoothed_N[rows], progress, prior), options)
            slope_B = loss.slope_B * weights_N[rows] / np.float32(len(rows))
            weights.backward(inputs_BAD, last_MK, slope_B, grad)
            optimiser.step(grad, options.lr * (1 - progress))
            total += float(loss.value_B @ weights_N[rows])
            step += 1
        yield total / n


def fresh_head(states_NAD: Floats, hidden: int, rng: np.random.Generator) -> Head:
    """Return an untrained head that standardises by these states (N, A, D)."""
    width = states_NAD.shape[2]
    flat_MD = states_NAD.reshape(-1, width)
    scale_D = flat_MD.std(axis=0)
    scale_D = np.where(scale_D > 1e-6, scale_D, 1.0).astype(np.float32)  # constant features stay 0
    theta = np.zeros(HeadWeights.size(width, hidden), np.float32)
    weights = HeadWeights(theta, width, hidden)
    # The last layer starts at 0: soft targets near 1/2 would not outweigh a random first guess.
    if hidden:
        weights.hidden_DH[:] = rng.normal(0, np.sqrt(2 / width), (width, hidden))
    return Head(flat_MD.mean(axis=0).astype(np.float32), scale_D, theta, hidden, ())


def standardised(states_NAD: Floats, mean_D: Floats, scale_D: Floats) -> Floats:
    """Return states with mean 0 and standard deviation 1 where these were measured."""
    found_NAD = states_NAD - mean_D
    found_NAD /= scale_D
    return np.ascontiguousarray(found_NAD, dtype=np.float32)


def check_states(states_NAD: Floats) -> None:
    """Raise BadInput for other shapes than (N, 1 or 2, D), NaN and infinity."""
    if states_NAD.ndim != 3 or states_NAD.shape[1] not in SIGNS:
        raise BadInput(f"states: expected shape (N, 1 or 2 answers, D), got {states_NAD.shape}")
    if not np.isfinite(states_NAD).all():
        raise BadInput("states contain NaN or infinity")


def checked_targets(n: int, targets_N: NDArray[np.floating]) -> Floats:
    """Return soft targets (N,) in [0, 1]; raises BadInput for others."""
    targets = np.asarray(targets_N, dtype=np.float32)
    if targets.shape != (n,) or n < 2:
        raise BadInput(f"targets: expected shape ({n},) of 2+, got {targets.shape}")
    if not ((targets >= 0) & (targets <= 1)).all():
        raise BadInput("targets must lie in [0, 1] and must not be NaN")
    return targets


def checked_weights(n: int, weights_N: NDArray[np.floating] | None) -> Floats:
    """Return row weights scaled to mean 1; raises BadInput for invalid ones."""
    if weights_N is None:
        return np.ones(n, np.float32)
    weights = np.asarray(weights_N, dtype=np.float32)
    if weights.shape != (n,) or not (np.isfinite(weights) & (weights >= 0)).all():
        raise BadInput(f"row weights: expected {n} finite numbers >= 0, got {weights.shape}")
    if weights.sum() <= 0:
        raise BadInput("row weights are all 0: nothing to train on")
    return np.asarray(weights / weights.mean(), np.float32)
