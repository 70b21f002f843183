"""LoRA without materialising the updated weight, and the elementwise parts of a block.

Each has its backward pass written out: fewer passes over memory and fewer saved tensors than
autograd's. Under torch.compile they are plain formulas, which it fuses itself. Frozen states are
computed in inference mode by torch's own operations. The functions here are twice as fast on a CPU
and round differently.

Legend: T tokens, I inputs, O outputs, P stacked ranks of joined projections, F half of a width.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.nn.functional import linear, rms_norm, silu


@dataclass(frozen=True, slots=True)
class LowRank:
    """A frozen weight with a low-rank update, W + scale B A (LoRA, arXiv 2106.09685).

    A weight that joins several projections (`sizes` output rows each) has an A and a B for each,
    stacked: `a_RI` of shape (P, I), `b_OR` of shape (O, R). Both are float32 and trained; the
    product is taken in the states' type.
    """

    frozen_OI: Tensor
    a_RI: Tensor
    b_OR: Tensor
    scale: float
    sizes: tuple[int, ...]

    @property
    def shape(self) -> torch.Size:
        return self.frozen_OI.shape

    def merged(self) -> Tensor:
        update_OI = self.scale * (_spread(self.b_OR, self.sizes) @ self.a_RI)
        return (self.frozen_OI.float() + update_OI).detach().to(self.frozen_OI.dtype)

    def split(self, n_parts: int) -> tuple["LowRank", "LowRank"]:
        """Return the first `n_parts` projections and the others, sharing what is trained."""
        first, rank = sum(self.sizes[:n_parts]), self.b_OR.shape[1]
        return (
            LowRank(
                self.frozen_OI[:first],
                self.a_RI[: n_parts * rank],
                self.b_OR[:first],
                self.scale,
                self.sizes[:n_parts],
            ),
            LowRank(
                self.frozen_OI[first:],
                self.a_RI[n_parts * rank :],
                self.b_OR[first:],
                self.scale,
                self.sizes[n_parts:],
            ),
        )


Weight = Tensor | LowRank


def _applied(function: type[torch.autograd.Function], *inputs: Any) -> Tensor:
    made: Tensor = function.apply(*inputs)  # type: ignore[no-untyped-call]
    return made


def project(x: Tensor, weight: Weight, bias: Tensor | None = None) -> Tensor:
    """Return x W^T + bias, plus the low-rank path where there is one."""
    if isinstance(weight, Tensor):
        return linear(x, weight.to(x.dtype), bias)
    a_PI = (weight.scale * weight.a_RI).to(x.dtype)
    b_OP = _spread(weight.b_OR, weight.sizes).to(x.dtype)
    if is_compiling():
        return linear(x, weight.frozen_OI, bias) + linear(linear(x, a_PI), b_OP)
    flat_TI = x.reshape(-1, x.shape[-1])
    made_TO = _applied(_Project, flat_TI, weight.frozen_OI, bias, a_PI, b_OP)
    return made_TO.view(*x.shape[:-1], -1)


def _spread(b_OR: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Return B of joined projections as one block-diagonal matrix (O, P)."""
    if len(sizes) == 1:
        return b_OR
    made_OP: Tensor = torch.block_diag(*torch.split(b_OR, list(sizes)))  # type: ignore[no-untyped-call]
    return made_OP


class _Project(torch.autograd.Function):
    """The frozen product, and two thin ones added into it in place."""

    @staticmethod
    def forward(
        ctx: Any, x_TI: Tensor, frozen_OI: Tensor, bias: Tensor | None, a_PI: Tensor, b_OP: Tensor
    ) -> Tensor:
        low_TP = x_TI @ a_PI.T
        ctx.save_for_backward(x_TI, frozen_OI, a_PI, b_OP, low_TP)
        return linear(x_TI, frozen_OI, bias).addmm_(low_TP, b_OP.T)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        slope_TO = slopes[0].contiguous()
        x_TI, frozen_OI, a_PI, b_OP, low_TP = ctx.saved_tensors
        slope_TP = slope_TO @ b_OP
        slope_x = None
        if ctx.needs_input_grad[0]:
            slope_x = (slope_TO @ frozen_OI).addmm_(slope_TP, a_PI)
        return slope_x, None, None, slope_TP.T @ x_TI, slope_TO.T @ low_TP


def gated(gate_up: Tensor) -> Tensor:
    """Return silu(gate) * up of the joined (..., 2 F)."""
    if is_compiling() or gate_up.is_inference():
        gate, up = gate_up.chunk(2, dim=-1)
        return silu(gate) * up
    return _applied(_Gated, gate_up)


class _Gated(torch.autograd.Function):
    """Keeps its input alone; silu is computed again on the way back."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, dim=-1)
        return silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=-1)
        slope_gate = torch.ops.aten.silu_backward(slopes[0] * up, gate)
        return torch.cat((slope_gate, silu(gate).mul_(slopes[0])), dim=-1)


def normed(state: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Apply RMS norm over the last dimension by a frozen weight.

    CUDA has one kernel for each direction.
    """
    if is_compiling() or state.is_cuda or state.is_inference():
        return rms_norm(state, (state.shape[-1],), weight, eps)
    return _applied(_Normed, state, weight, eps)


class _Normed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, state: Tensor, weight: Tensor, eps: float) -> Tensor:
        size = torch.linalg.vector_norm(state, dim=-1, keepdim=True, dtype=torch.float32)
        inverse = torch.rsqrt(size.square_().div_(state.shape[-1]).add_(eps))
        ctx.save_for_backward(state, weight, inverse)
        return (state * inverse).to(state.dtype).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        state, weight, inverse = ctx.saved_tensors
        slope = (slopes[0] * weight).float()
        unit = state * inverse
        along = (slope * unit).mean(dim=-1, keepdim=True)
        return slope.addcmul_(unit, along, value=-1).mul_(inverse).to(state.dtype), None, None


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions to the last dimension, its halves being the pairs."""
    if is_compiling() or x.is_inference():
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return _applied(_Rotated, x, cos, sin)


class _Rotated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return _turned(slopes[0], cos, sin, -1), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, way: int) -> Tensor:
    """Rotate forward (1) or back (-1)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat(
        (
            torch.addcmul(first * cos, second, sin, value=-way),
            torch.addcmul(second * cos, first, sin, value=way),
        ),
        dim=-1,
    )
