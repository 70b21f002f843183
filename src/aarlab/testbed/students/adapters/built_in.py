"""The built-in adaptations: LoRA on the upper blocks or on all, and all weights of every block."""

import numpy as np
import torch
from torch import Tensor

from aarlab.testbed.models.low_rank import LowRank
from aarlab.testbed.students.adapters.adaptation import Adaptation, Matrix
from aarlab.testbed.students.options import AdapterOptions, HeadOptions, embedded_adapter


def low_rank(matrix: Matrix, options: AdapterOptions, random: torch.Generator) -> LowRank:
    """Return a LoRA update of rank `options.rank` and scale alpha / rank, at first zero.

    A matrix that joins several projections has an A and a B for each.
    """
    outputs, inputs = matrix.weight_OI.shape
    device = matrix.weight_OI.device
    n_stacked = len(matrix.sizes) * options.rank
    a_RI = torch.randn(n_stacked, inputs, generator=random) / np.sqrt(inputs)
    b_OR = torch.zeros(outputs, options.rank)
    return LowRank(
        matrix.weight_OI,
        a_RI.to(device).requires_grad_(True),
        b_OR.to(device).requires_grad_(True),
        options.alpha / options.rank,
        matrix.sizes,
    )


def whole(matrix: Matrix, options: AdapterOptions, random: torch.Generator) -> Tensor:
    """Return a float32 copy of the weight that is trained."""
    return matrix.weight_OI.float().clone().requires_grad_(True)


TOP_BLOCKS = Adaptation(
    name="top_blocks",
    title="LoRA (r = 8) on the three upper blocks",
    trainable=low_rank,
    defaults=embedded_adapter,
    blocks="upper",
)
LORA = Adaptation(
    name="lora",
    title="LoRA (r = 8) on every block",
    trainable=low_rank,
    defaults=lambda: (
        AdapterOptions(kind="lora"),
        HeadOptions(hidden=0, epochs=3, lr=1e-3, weight_decay=0.0),
    ),
)
FULL = Adaptation(
    name="full",
    title="all weights of every block",
    trainable=whole,
    defaults=lambda: (
        AdapterOptions(kind="full"),
        HeadOptions(hidden=0, epochs=3, lr=5e-5, weight_decay=0.0),
    ),
)
