"""An adaptation: LoRA on the MLP of every block; attention stays as it is."""

import torch

from aarlab.testbed.models.low_rank import Weight
from aarlab.testbed.students.adapters.adaptation import Adaptation, Matrix
from aarlab.testbed.students.adapters.built_in import low_rank
from aarlab.testbed.students.options import AdapterOptions, HeadOptions


def trainable(matrix: Matrix, options: AdapterOptions, random: torch.Generator) -> Weight:
    if matrix.name in ("gate_up", "down"):
        return low_rank(matrix, options, random)
    return matrix.weight_OI


def defaults() -> tuple[AdapterOptions, HeadOptions]:
    training = HeadOptions(hidden=0, epochs=3, lr=1e-3, weight_decay=0.0)
    return AdapterOptions(kind="mlp_only", rank=8), training


ADAPTATION = Adaptation(
    name="mlp_only",
    title="LoRA (r = 8) on the MLP of every block",
    trainable=trainable,
    defaults=defaults,
)
