"""The instance-dependent channel of em_posterior (methods.md 28): truth y -> hard weak label h.

    TPR(x) = P(h=1 | y=1, x) = sigmoid(f(x).a)        FPR(x) = P(h=1 | y=0, x) = sigmoid(f(x).b)
    P(y=1 | h, x)  is proportional to  P(h | y=1, x) pi(x)

with a prior pi(x) that does not come from the weak teacher. a and b maximise the marginal
likelihood of the weak labels, sum_x log sum_y P(h | y, x) P(y | x), under a Gaussian penalty that
holds them near a channel with TPR .7 and FPR .3. Legend: N rows, F features (the first is
constant).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aarlab.testbed.losses import expit

Floats64 = NDArray[np.float64]
START = float(np.log(0.7 / 0.3))
PENALTY = 1.0
PROBABILITY_FLOOR = 1e-4


class Channel(NamedTuple):
    """Weights of the true and the false positive rate."""

    true_F: Floats64
    false_F: Floats64

    def rates(self, features_NF: Floats64) -> tuple[Floats64, Floats64]:
        """TPR(x) and FPR(x), each of shape (N,)."""
        return expit(features_NF @ self.true_F), expit(features_NF @ self.false_F)

    def posterior(
        self, hard_N: NDArray[np.bool_], features_NF: Floats64, prior_N: Floats64
    ) -> Floats64:
        """P(y=1 | hard weak label, x), shape (N,)."""
        tpr_N, fpr_N = self.rates(features_NF)
        if_true_N = np.where(hard_N, tpr_N, 1 - tpr_N) * prior_N
        if_false_N = np.where(hard_N, fpr_N, 1 - fpr_N) * (1 - prior_N)
        return np.asarray(if_true_N / np.maximum(if_true_N + if_false_N, 1e-300))


def fit_channel(hard_N: NDArray[np.bool_], features_NF: Floats64, prior_N: Floats64) -> Channel:
    """Maximise the penalised marginal likelihood by L-BFGS with its exact gradient."""
    n_features = features_NF.shape[1]
    start = np.zeros(2 * n_features)
    start[0], start[n_features] = START, -START
    prior_N = np.clip(prior_N, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)

    def negative(weights: Floats64) -> tuple[float, Floats64]:
        channel = Channel(weights[:n_features], weights[n_features:])
        tpr_N, fpr_N = channel.rates(features_NF)
        mix_N = np.where(
            hard_N,
            tpr_N * prior_N + fpr_N * (1 - prior_N),
            (1 - tpr_N) * prior_N + (1 - fpr_N) * (1 - prior_N),
        )
        held_N = channel.posterior(hard_N, features_NF, prior_N)
        gradient = np.concatenate(
            [features_NF.T @ (held_N * (hard_N - tpr_N)),
             features_NF.T @ ((1 - held_N) * (hard_N - fpr_N))]
        )  # fmt: skip
        away = weights - start
        value = -np.log(np.maximum(mix_N, 1e-300)).sum() + PENALTY * float(away @ away)
        return float(value), 2 * PENALTY * away - gradient

    from scipy.optimize import minimize  # slow to load

    found = minimize(negative, start, jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return Channel(found.x[:n_features], found.x[n_features:])


def channel_features(weak_N: Floats64, margins_NK: Floats64) -> Floats64:
    """Constant, weak confidence, size and SD of the margins, sign agreement; standardised, (N,
    5)."""
    mean_N = margins_NK.mean(axis=1)
    agreement_N = (np.sign(margins_NK) == np.sign(mean_N)[:, None]).mean(axis=1)
    raw_NF = np.stack(
        [np.abs(2 * weak_N - 1), np.abs(mean_N), margins_NK.std(axis=1), agreement_N], axis=1
    )
    spread_F = raw_NF.std(axis=0)
    scaled_NF = (raw_NF - raw_NF.mean(axis=0)) / np.where(spread_F > 1e-9, spread_F, 1.0)
    return np.concatenate([np.ones((len(weak_N), 1)), scaled_NF], axis=1)
