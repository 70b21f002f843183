"""The strong model's own judgement, from log-likelihoods it gives before any training.

    pmi        log P(answer | prompt) - log P(answer)
    mean_pmi   the same per token
    corrected  pmi minus what length and log P(answer) explain, a regression on the train rows

A margin is above 0 for label 1: the difference of both answers in a preference row; in a
verification row the value less the quantile that gives the train rows the weak labels' share of
positives. It is divided by its standard deviation on the train rows. No truth and no single weak
label goes in.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aarlab.testbed.students.features import AnswerLogp

Floats64 = NDArray[np.float64]
KINDS = ("pmi", "mean_pmi", "corrected")


@dataclass(frozen=True, slots=True)
class _Scale:
    """Coefficients of the regression, centre and spread, fitted on the train rows."""

    slopes_F: Floats64
    centre: float
    spread: float


class ZeroShot:
    """Margins of all three kinds, fitted once on the train rows."""

    def __init__(self, train: AnswerLogp, prior: float) -> None:
        """Fit the margins' scales on the train rows.

        `prior` is the mean weak label; it places the threshold of verification rows.
        """
        self._scales: Mapping[str, _Scale] = {kind: _fit(train, kind, prior) for kind in KINDS}

    def margins(self, logp: AnswerLogp, kind: str) -> Floats64:
        """Return standardised margins, shape (N,)."""
        scale = self._scales[kind]
        raw_N = _raw(logp, kind) - _explainers(logp) @ scale.slopes_F
        return np.asarray((raw_N - scale.centre) / scale.spread)

    def all_margins(self, logp: AnswerLogp) -> Floats64:
        """Return the margins of all kinds, shape (N, K) in the order of KINDS."""
        return np.stack([self.margins(logp, kind) for kind in KINDS], axis=1)


def _fit(train: AnswerLogp, kind: str, prior: float) -> _Scale:
    raw_N, explainers_NF = _raw(train, kind), _explainers(train)
    slopes_F: Floats64 = np.zeros(explainers_NF.shape[1])
    if kind == "corrected":
        slopes_F = np.asarray(np.linalg.lstsq(explainers_NF, raw_N)[0], dtype=np.float64)
    left_N: Floats64 = np.asarray(raw_N - explainers_NF @ slopes_F)
    is_pair = train.tokens_NA.shape[1] == 2
    centre = 0.0 if is_pair else float(np.quantile(left_N, 1 - prior))
    spread = float(np.sqrt(np.mean((left_N - (0 if is_pair else left_N.mean())) ** 2)))
    return _Scale(slopes_F, centre, spread if spread > 1e-9 else 1.0)


def _raw(logp: AnswerLogp, kind: str) -> Floats64:
    pmi_NA: Floats64 = logp.given_prompt_NA.astype(np.float64) - logp.alone_NA
    if kind == "mean_pmi":
        pmi_NA = np.asarray(pmi_NA / np.maximum(logp.tokens_NA, 1), dtype=np.float64)
    return _of_row(pmi_NA)


def _explainers(logp: AnswerLogp) -> Floats64:
    """Return length and log P(answer), and a constant for single answers, shape (N, F)."""
    columns = [
        _of_row(logp.tokens_NA.astype(np.float64)),
        _of_row(logp.alone_NA.astype(np.float64)),
    ]
    if logp.tokens_NA.shape[1] == 1:
        columns.append(np.ones(len(logp.tokens_NA)))
    return np.stack(columns, axis=1)


def _of_row(values_NA: Floats64) -> Floats64:
    is_pair = values_NA.shape[1] == 2
    return np.asarray(values_NA[:, 0] - values_NA[:, 1] if is_pair else values_NA[:, 0])
