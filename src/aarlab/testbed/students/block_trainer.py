"""A trainer whose weights are blocks of the model: `lora`, `top_blocks`, `full` and installed ones.

`backward` runs the rows forward once more, so that nothing of a call has to stay on the device
while other clients use it. Loads torch.
"""

from collections.abc import Sequence

import numpy as np
import torch

from aarlab.core.types import Example
from aarlab.testbed.students.adapters.packing import Rows
from aarlab.testbed.students.adapters.student import AdapterStudent
from aarlab.testbed.students.adapters.tuning import gradients_of, logits_of, set_gradients
from aarlab.testbed.students.options import HeadOptions
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.students.train import Floats
from aarlab.testbed.students.trainer import Saved, noise_seed


class BlockTrainer:
    """Trains the blocks of an `AdapterStudent` call by call."""

    def __init__(
        self,
        factory: StudentFactory,
        options: HeadOptions,
        rows: Sequence[Example],
        secret: bytes,
    ) -> None:
        self._factory, self._secret = factory, secret
        self._student = AdapterStudent(factory, options)
        self._tuned = self._student.fresh(rows, options.seed)
        self._trained = self._tuned.trained()
        self._optimiser = torch.optim.AdamW(
            self._trained, lr=options.lr, weight_decay=options.weight_decay
        )
        self._rows: Rows | None = None
        weights = sum(weight.numel() * weight.element_size() for weight in self._trained)
        self.n_bytes = 4 * weights  # weights, gradients, two moments

    @property
    def n_last(self) -> int:
        return 0 if self._rows is None else len(self._rows)

    def forward(self, rows: Sequence[Example]) -> Floats:
        self._rows = self._student.rows_of(rows)
        self._factory.compute.rows_forwarded += len(rows)
        tuner = self._student.tuner(self._tuned)
        return logits_of(tuner, self._rows, np.arange(len(self._rows)))

    def backward(self, slope_B: Floats) -> None:
        assert self._rows is not None
        rows, self._rows = self._rows, None
        tuner = self._student.tuner(self._tuned)
        parts = gradients_of(tuner, rows, np.arange(len(rows)), slope_B)
        before = [weight.grad for weight in self._trained]
        set_gradients(self._trained, parts)
        for weight, grad in zip(self._trained, before, strict=True):
            if grad is not None and weight.grad is not None:
                weight.grad += grad
        self._factory.compute.rows_trained += len(rows)

    def step(self, lr: float) -> None:
        self._optimiser.param_groups[0]["lr"] = lr
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)

    @torch.no_grad()
    def perturb(self, seed: int, scale: float) -> None:
        random = torch.Generator().manual_seed(noise_seed(self._secret, seed))
        for weight in self._trained:
            noise = torch.randn(weight.shape, generator=random)
            weight += (scale * noise).to(weight.device, weight.dtype)

    def save(self) -> Saved:
        moments = self._optimiser.state
        found, steps = [weight.detach().cpu().numpy().copy() for weight in self._trained], 0
        for weight in self._trained:
            if held := moments.get(weight):
                steps = int(held["step"])
                found += [held[name].cpu().numpy().copy() for name in ("exp_avg", "exp_avg_sq")]
        return found, steps

    @torch.no_grad()
    def restore(self, saved: Saved) -> None:
        found, steps = saved
        n = len(self._trained)
        for weight, kept in zip(self._trained, found, strict=False):
            weight.copy_(torch.from_numpy(kept))
        self._optimiser.state.clear()
        for at, weight in enumerate(self._trained if len(found) > n else ()):
            first, second = (torch.from_numpy(x.copy()) for x in found[n + 2 * at : n + 2 * at + 2])
            self._optimiser.state[weight] = {
                "step": torch.tensor(float(steps)),
                "exp_avg": first.to(weight.device),
                "exp_avg_sq": second.to(weight.device),
            }
        self._optimiser.zero_grad(set_to_none=True)
        self._rows = None
