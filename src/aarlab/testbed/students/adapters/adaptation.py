"""Adaptations: how the strong model itself is trained. By name, built-in and of installed packages.

A package adds one by an entry point that names an `Adaptation`:

    [project.entry-points."aarlab.adaptations"]
    mlp_only = "my_package.mlp_only:ADAPTATION"

It is then `aarlab task build TASK --adaptation mlp_only` and `student: {adaptation: mlp_only}` in
`task.yaml`. Its code runs wherever a model is trained: in the operator's build, in the verifier and
next to a method in its sandbox, which sees packages in the interpreter's own folders only. This
module loads no torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aarlab.core.layout import ADAPTATION_GROUP, ADAPTATION_NAMES
from aarlab.core.registry import Registry

if TYPE_CHECKING:
    import torch

    from aarlab.testbed.models.low_rank import Weight
    from aarlab.testbed.students.options import AdapterOptions, HeadOptions

PROBE = "probe"
"""Name of what trains a head on frozen states and leaves the model as it is."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """A frozen weight of a block, with O rows and I columns.

    `name` is qkv, out, gate_up or down. A weight that joins several projections has `sizes` output
    rows of each.
    """

    name: str
    weight_OI: "torch.Tensor"
    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Adaptation:
    """One way to train blocks of the strong model below a readout.

    `trainable` gets each matrix of each trained block and returns what takes its place: the weight
    itself, which stays frozen; a copy that requires a gradient; or a `LowRank` update of it. It
    draws from the generator alone. `defaults` are the options of the adaptation and of its
    training. `blocks` says which blocks are trained: the upper `AdapterOptions.blocks`, or all up
    to the student's layer.
    """

    name: str
    title: str
    trainable: Callable[[Matrix, "AdapterOptions", "torch.Generator"], "Weight"]
    defaults: Callable[[], tuple["AdapterOptions", "HeadOptions"]]
    blocks: Literal["upper", "all"] = "all"

    def lowest(self, options: "AdapterOptions", layer: int) -> int:
        """Return the number of blocks below a student's layer that never change."""
        return max(layer - options.blocks, 0) if self.blocks == "upper" else 0


ADAPTATIONS: Registry[Adaptation] = Registry(
    what="adaptation",
    group=ADAPTATION_GROUP,
    expected=Adaptation,
    built_in={
        name: f"aarlab.testbed.students.adapters.built_in:{name.upper()}"
        for name in ADAPTATION_NAMES
    },
    reserved=(PROBE,),
)
