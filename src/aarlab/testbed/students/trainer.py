"""Trainers: a student's weights, moved by gradients that the client computes, or at random.

A client's loss, curriculum or evolution strategy is its own code. It sees logits, and says how
they should change. The same seed of `perturb` moves the weights of two clients in different
directions: otherwise a list of seeds could carry weights that were trained elsewhere.

Legend: B rows of a call, N rows, A answers, D state width.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import BadInput
from aarlab.core.types import Example
from aarlab.testbed.students.options import HeadOptions
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.students.train import (
    AdamW,
    Floats,
    HeadWeights,
    check_states,
    fresh_head,
    standardised,
)

Saved = tuple[list[Floats], int]
"""Weights and the optimiser's two moments, one after the other, and the number of steps."""


class Trainer(Protocol):
    """What a client's trainer does. `n_bytes` is what it holds."""

    n_bytes: int

    @property
    def n_last(self) -> int:
        """Return the number of rows of the last `forward` that had no `backward` yet."""
        ...

    def forward(self, rows: Sequence[Example]) -> Floats:
        """Return log-odds of label 1 (B,), and remember the rows for `backward`."""
        ...

    def backward(self, slope_B: Floats) -> None:
        """Add the gradient of sum(slope * logit) of the last `forward` to what `step` uses."""
        ...

    def step(self, lr: float) -> None:
        """Do one step of AdamW with the gradients since the last one."""
        ...

    def perturb(self, seed: int, scale: float) -> None:
        """Add `scale` times standard normal noise of this seed to all weights."""
        ...

    def save(self) -> Saved: ...

    def restore(self, saved: Saved) -> None: ...


def trainer_of(
    factory: StudentFactory, options: HeadOptions, rows: Sequence[Example], secret: bytes
) -> Trainer:
    """Return a trainer of fresh weights, of the factory's adaptation.

    `rows` set its standardisation, as the train rows of `fit` do. Of the options `hidden`, `seed`
    and `weight_decay` count.
    """
    if factory.adapter is None:
        return HeadTrainer(factory, options, rows, secret)
    from aarlab.testbed.students.block_trainer import BlockTrainer  # loads torch

    return BlockTrainer(factory, options, rows, secret)


def noise_seed(secret: bytes, seed: int) -> int:
    """Return the seed of a perturbation for one client, 0 to 2^63 - 1."""
    digest = hashlib.sha256(secret + str(seed).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@dataclass(slots=True)
class _Last:
    inputs_BAD: Floats
    last_MK: Floats


class HeadTrainer:
    """Trains a head on frozen states, with the arithmetic of `train.fit_head`."""

    def __init__(
        self,
        factory: StudentFactory,
        options: HeadOptions,
        rows: Sequence[Example],
        secret: bytes,
    ) -> None:
        states_NAD = factory.states(rows)
        check_states(states_NAD)
        rng = np.random.default_rng(options.seed)
        self._factory, self._secret = factory, secret
        self._head = fresh_head(states_NAD, options.hidden, rng)
        self._theta, width = self._head.theta.copy(), states_NAD.shape[2]
        self._weights = HeadWeights(self._theta, width, options.hidden)
        self._optimiser = AdamW(self._theta, width, options)
        self._grad, self._one = np.zeros_like(self._theta), np.zeros_like(self._theta)
        self._last: _Last | None = None
        self.n_bytes = 8 * self._theta.nbytes  # weights, gradients, moments and buffers

    @property
    def n_last(self) -> int:
        return 0 if self._last is None else len(self._last.inputs_BAD)

    def forward(self, rows: Sequence[Example]) -> Floats:
        states_BAD = self._factory.states(rows)
        check_states(states_BAD)
        inputs_BAD = standardised(states_BAD, self._head.mean_D, self._head.scale_D)
        logits_B, last_MK = self._weights.forward(inputs_BAD)
        self._last = _Last(inputs_BAD, last_MK)
        return logits_B

    def backward(self, slope_B: Floats) -> None:
        assert self._last is not None
        last, self._last = self._last, None
        self._weights.backward(last.inputs_BAD, last.last_MK, slope_B, self._one)
        self._grad += self._one
        self._factory.compute.rows_trained += len(slope_B)

    def step(self, lr: float) -> None:
        self._optimiser.step(self._grad, lr)
        self._grad[:] = 0

    def perturb(self, seed: int, scale: float) -> None:
        rng = np.random.default_rng(noise_seed(self._secret, seed))
        noise = rng.standard_normal(len(self._theta), dtype=np.float32)
        self._theta += np.float32(scale) * noise

    def save(self) -> Saved:
        one = self._optimiser
        return [self._theta.copy(), one.first.copy(), one.second.copy()], one.step_number

    def restore(self, saved: Saved) -> None:
        (theta, first, second), step_number = saved
        self._theta[:], self._optimiser.first[:], self._optimiser.second[:] = theta, first, second
        self._optimiser.step_number = step_number
        self._grad[:], self._last = 0, None


def checked_slopes(slope_B: NDArray[Any] | None, n: int) -> Floats:
    """Return gradients with respect to logits (B,); raises BadInput for other shapes and values."""
    if not n:
        raise BadInput("backward: call forward(rows) first, once for each backward")
    if slope_B is None or slope_B.shape != (n,) or slope_B.dtype.kind != "f":
        raise BadInput(f"grad: expected one number for each of the {n} rows of the last forward")
    slopes = slope_B.astype(np.float32)
    if not np.isfinite(slopes).all():
        raise BadInput("grad: NaN or infinity")
    return slopes
