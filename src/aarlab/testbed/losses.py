"""Losses on soft binary targets, as value and slope with respect to the logit.

The slope is all that training needs: a head multiplies it through by hand, a torch model takes it
as `logits.backward(slope)`. Legend: B rows of a batch; p = sigmoid(logit) is the student, w the
target.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aarlab.testbed.options import HeadOptions

Floats = NDArray[np.float32]
RAMP = 0.1  # share of steps over which the auxiliary weight rises (Burns et al. 2023)
CLIP = 1e-3  # targets are kept this far from 0 and 1 where their log-odds are needed


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
    """Sigmoid in double precision, exact in both tails.

    As scipy's, which takes half a second to load: each verified run is a process of its own.
    """
    small = np.exp(-np.abs(np.asarray(values, dtype=np.float64)))
    return np.asarray(np.where(values >= 0, 1 / (1 + small), small / (1 + small)))


def sigmoid(logits: Floats) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), dtype=np.float32)


def logit(probs: Floats) -> Floats:
    """Log-odds of probabilities clipped to [CLIP, 1 - CLIP]."""
    clipped = np.clip(probs, CLIP, 1 - CLIP)
    return np.asarray(np.log(clipped) - np.log1p(-clipped), dtype=np.float32)


def _cross_entropy(logits_B: Floats, targets_B: Floats) -> Loss:
    value_B = np.logaddexp(np.float32(0), logits_B) - targets_B * logits_B
    return Loss(value_B, sigmoid(logits_B) - targets_B)


def ce(batch: Batch, options: HeadOptions) -> Loss:
    """CE(p, w); hard or soft is a matter of the targets."""
    return _cross_entropy(batch.logits_B, batch.targets_B)


def auxiliary_weight(progress: float, a_max: float) -> float:
    """Rises linearly from 0 to `a_max` over the first 10 % of steps, then stays."""
    return a_max * min(progress / RAMP, 1.0)


def aux_confidence(batch: Batch, options: HeadOptions) -> Loss:
    """CE(p, (1-a) w + a 1[p > t]), t so that the share of positives in the batch is the weak prior.

    Burns et al. 2023, arXiv 2312.09390. Their released code jumps to a_max at the end of the
    warm-up; here a rises linearly, as the paper says. The self-target takes no gradient.
    """
    a = auxiliary_weight(batch.progress, options.a_max)
    n_positive = round(batch.prior * len(batch.logits_B))
    own_B = np.zeros_like(batch.targets_B)
    own_B[np.argsort(-batch.logits_B, kind="stable")[:n_positive]] = 1.0
    return _cross_entropy(batch.logits_B, (1 - a) * batch.targets_B + a * own_B)


def entropy(batch: Batch, options: HeadOptions) -> Loss:
    """(1-a) CE(p, w) + a H(p), a as in aux_confidence: the self-target is soft and takes
    gradient."""
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
    """CE(p, q) with q proportional to p^beta w^alpha, gradient stopped through q."""
    mixed_B = options.beta * batch.logits_B + options.alpha * logit(batch.targets_B)
    return _cross_entropy(batch.logits_B, sigmoid(mixed_B))


def window(batch: Batch, options: HeadOptions) -> Loss:
    """CE only where max(p, 1-p) < 0.5 + r: rows the student is sure about take no gradient."""
    unsure_B = np.abs(sigmoid(batch.logits_B) - 0.5) < options.radius
    value_B, slope_B = _cross_entropy(batch.logits_B, batch.targets_B)
    return Loss(value_B * unsure_B, slope_B * unsure_B)


def reverse_kl(batch: Batch, options: HeadOptions) -> Loss:
    """KL(p || w), mode-seeking (arXiv 2502.11107); targets are kept inside [CLIP, 1 - CLIP]."""
    probs_B, logit_w_B = sigmoid(batch.logits_B), logit(batch.targets_B)
    gap_B = batch.logits_B - logit_w_B
    # KL = p (z - z_w) + softplus(z_w) - softplus(z), z the logit of p
    zero = np.float32(0)
    softplus_w_B, softplus_B = np.logaddexp(zero, logit_w_B), np.logaddexp(zero, batch.logits_B)
    return Loss(probs_B * gap_B + softplus_w_B - softplus_B, probs_B * (1 - probs_B) * gap_B)


def reverse_ce(batch: Batch, options: HeadOptions) -> Loss:
    """CE(w, p) with the roles swapped: -p log w - (1-p) log(1-w) (arXiv 2505.24313).

    Bounded in p, so that a wrong label cannot pull without end; targets inside [CLIP, 1 - CLIP].
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
