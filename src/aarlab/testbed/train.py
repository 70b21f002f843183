"""The training loop: a head on frozen states, AdamW, minibatches, a linear schedule, float32.

Written out in numpy because a head is two small matrices: a run takes a tenth of a second, starts
without loading torch, and gives the same bits for the same seed. Legend: N rows, A answers per row
(2 preference, 1 verification), D width of a state, H hidden units, B rows of a batch.

A preference row is scored as the difference of its answers' scores, so swapping the answers flips
the prediction exactly: every head is swap-consistent by construction.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import BadInput
from aarlab.testbed.losses import LOSSES, Batch, Floats, sigmoid
from aarlab.testbed.options import HeadOptions

__all__ = ["Head", "HeadOptions", "fit_head"]
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
        """Log-odds of label 1, shape (N,); raises BadInput when the width differs from training."""
        _check_states(states_NAD)
        if states_NAD.shape[2] != len(self.mean_D):
            raise BadInput(f"states of width {states_NAD.shape[2]}, trained on {len(self.mean_D)}")
        weights = _Weights(self.theta, len(self.mean_D), self.hidden)
        return weights.forward(_standardised(states_NAD, self.mean_D, self.scale_D))[0]

    def predict_proba(self, states_NAD: Floats) -> Floats:
        """P(label 1), shape (N,)."""
        return sigmoid(self.logits(states_NAD))


class _Weights:
    """Views into one flat vector: `hidden_DH` and `bias_H` (absent in a linear head), `out_K`,
    `bias`."""

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
        """Logits (N,), and what the last layer saw, (N A, K)."""
        n, answers, width = inputs_NAD.shape
        last_MK = inputs_NAD.reshape(n * answers, width)
        if self.hidden_DH.size:
            last_MK = np.maximum(last_MK @ self.hidden_DH + self.bias_H, 0.0)
        scores_NA = (last_MK @ self.out_K + self.bias).reshape(n, answers)
        return scores_NA @ SIGNS[answers], last_MK

    def backward(self, inputs_BAD: Floats, last_MK: Floats, slope_B: Floats, into: Floats) -> None:
        """Write the gradient of sum(slope * logit) into the flat vector `into`."""
        batch, answers, width = inputs_BAD.shape
        grad = _Weights(into, width, len(self.bias_H))
        slope_M = (slope_B[:, None] * SIGNS[answers]).reshape(batch * answers)
        np.dot(slope_M, last_MK, out=grad.out_K)
        grad.bias[0] = slope_M.sum()
        if self.hidden_DH.size:
            slope_MH = slope_M[:, None] * self.out_K * (last_MK > 0)
            np.dot(inputs_BAD.reshape(batch * answers, width).T, slope_MH, out=grad.hidden_DH)
            slope_MH.sum(axis=0, out=grad.bias_H)


class _AdamW:
    """Decoupled weight decay on the matrices, none on biases (Loshchilov and Hutter 2019)."""

    def __init__(self, theta: Floats, width: int, options: HeadOptions) -> None:
        self.theta, self.first, self.second = theta, np.zeros_like(theta), np.zeros_like(theta)
        self.decayed = _Weights(theta, width, options.hidden)
        self.decay, self.step_number = options.weight_decay, 0

    def step(self, grad: Floats, lr: float) -> None:
        self.step_number += 1
        for matrix in (self.decayed.hidden_DH, self.decayed.out_K):
            matrix *= np.float32(1 - lr * self.decay)
        self.first += np.float32(1 - BETA_1) * (grad - self.first)
        self.second += np.float32(1 - BETA_2) * (grad * grad - self.second)
        rate = lr / (1 - BETA_1**self.step_number)
        spread = np.sqrt(self.second / np.float32(1 - BETA_2**self.step_number))
        self.theta -= np.float32(rate) * self.first / (spread + np.float32(EPSILON))


def fit_head(
    states_NAD: Floats,
    targets_N: NDArray[np.floating],
    options: HeadOptions,
    weights_N: NDArray[np.floating] | None = None,
    start: Head | None = None,
) -> Head:
    """Train a head on states (N, A, D) and soft targets (N,) in [0, 1]; row weights are scaled to
    mean 1.

    Features are standardised with the training rows only. With `start` training goes on from that
    head (its standardisation and size are kept, the optimiser starts anew). Raises BadInput on bad
    shapes.
    """
    _check_states(states_NAD)
    targets_N = checked_targets(len(states_NAD), targets_N)
    row_weights_N = checked_weights(len(targets_N), weights_N)
    rng = np.random.default_rng(options.seed)
    head = start or _fresh(states_NAD, options.hidden, rng)
    if head.hidden != options.hidden:
        raise BadInput(f"cannot go on with {options.hidden} hidden units: it has {head.hidden}")
    inputs_NAD = _standardised(states_NAD, head.mean_D, head.scale_D)
    theta = head.theta.copy()
    losses = _loop(inputs_NAD, targets_N, row_weights_N, (theta, options, rng))
    return Head(head.mean_D, head.scale_D, theta, head.hidden, head.losses + losses)


def _loop(
    inputs_NAD: Floats,
    targets_N: Floats,
    weights_N: Floats,
    run: tuple[Floats, HeadOptions, np.random.Generator],
) -> tuple[float, ...]:
    """Update theta in place; return the mean weighted loss of each epoch."""
    theta, options, rng = run
    n, _, width = inputs_NAD.shape
    weights, grad = _Weights(theta, width, options.hidden), np.zeros_like(theta)
    optimiser, loss_of = _AdamW(theta, width, options), LOSSES[options.loss]
    smoothed_N = (1 - options.smoothing) * targets_N + np.float32(options.smoothing / 2)
    prior = float(targets_N.mean())
    n_steps, step, losses = options.epochs * -(-n // options.batch), 0, []
    for _ in range(options.epochs):
        order_N, total = rng.permutation(n), 0.0
        for begin in range(0, n, options.batch):
            rows = order_N[begin : begin + options.batch]
            logits_B, last_MK = weights.forward(inputs_NAD[rows])
            progress = step / n_steps
            loss = loss_of(Batch(logits_B, smoothed_N[rows], progress, prior), options)
            slope_B = loss.slope_B * weights_N[rows] / np.float32(len(rows))
            weights.backward(inputs_NAD[rows], last_MK, slope_B, grad)
            optimiser.step(grad, options.lr * (1 - progress))
            total += float(loss.value_B @ weights_N[rows])
            step += 1
        losses.append(total / n)
    return tuple(losses)


def _fresh(states_NAD: Floats, hidden: int, rng: np.random.Generator) -> Head:
    width = states_NAD.shape[2]
    flat_MD = states_NAD.reshape(-1, width)
    scale_D = flat_MD.std(axis=0)
    scale_D = np.where(scale_D > 1e-6, scale_D, 1.0).astype(np.float32)  # constant features stay 0
    theta = np.zeros(_Weights.size(width, hidden), np.float32)
    weights = _Weights(theta, width, hidden)
    # The last layer starts at 0: soft targets near 1/2 would not outweigh a random first guess.
    if hidden:
        weights.hidden_DH[:] = rng.normal(0, np.sqrt(2 / width), (width, hidden))
    return Head(flat_MD.mean(axis=0).astype(np.float32), scale_D, theta, hidden, ())


def _standardised(states_NAD: Floats, mean_D: Floats, scale_D: Floats) -> Floats:
    return np.ascontiguousarray((states_NAD - mean_D) / scale_D, dtype=np.float32)


def _check_states(states_NAD: Floats) -> None:
    if states_NAD.ndim != 3 or states_NAD.shape[1] not in SIGNS:
        raise BadInput(f"states: expected shape (N, 1 or 2 answers, D), got {states_NAD.shape}")
    if not np.isfinite(states_NAD).all():
        raise BadInput("states contain NaN or infinity")


def checked_targets(n: int, targets_N: NDArray[np.floating]) -> Floats:
    """Soft targets (N,) in [0, 1], or BadInput."""
    targets = np.asarray(targets_N, dtype=np.float32)
    if targets.shape != (n,) or n < 2:
        raise BadInput(f"targets: expected shape ({n},) of 2+, got {targets.shape}")
    if not ((targets >= 0) & (targets <= 1)).all():
        raise BadInput("targets must lie in [0, 1] and must not be NaN")
    return targets


def checked_weights(n: int, weights_N: NDArray[np.floating] | None) -> Floats:
    """Row weights of mean 1, or BadInput."""
    if weights_N is None:
        return np.ones(n, np.float32)
    weights = np.asarray(weights_N, dtype=np.float32)
    if weights.shape != (n,) or not (np.isfinite(weights) & (weights >= 0)).all():
        raise BadInput(f"row weights: expected {n} finite numbers >= 0, got {weights.shape}")
    if weights.sum() <= 0:
        raise BadInput("row weights are all 0: nothing to train on")
    return np.asarray(weights / weights.mean(), np.float32)
