"""Packed rows through trainable blocks: what `Decoder.upward` computes, for training.

Legend: T tokens of a pack, K kept ones, D state width, H heads, S size of a head.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from aarlab.testbed.adapters.packing import Pack
from aarlab.testbed.models.compute import Compute
from aarlab.testbed.models.decoder import Block, Decoder, Shape
from aarlab.testbed.models.low_rank import LowRank, Weight, gated, normed, project, rotated

Pair = tuple[Tensor, Tensor]


class Forward:
    """`compute.checkpoint` keeps less for the way back: "mlp" makes the wide half of each block
    again, "block" all of it. `compute.compile` fuses what lies between the matrix products."""

    def __init__(self, decoder: Decoder, compute: Compute) -> None:
        self._shape, self._decoder, self._kind = decoder.shape, decoder, compute.checkpoint
        fused: Callable[[Any], Any] = partial(torch.compile, dynamic=True)
        self._mlp = fused(_mlp) if compute.compile else _mlp
        self._ask = fused(_queries_keys) if compute.compile else _queries_keys

    def kept_states(self, blocks: Sequence[Block], pack: Pack) -> Tensor:
        """States (K, D) of the answers' tokens after the blocks; the last computes no others."""
        cos, sin = self._decoder.rotation(pack.positions_T, pack.state_TD.dtype)
        state_TD = pack.state_TD
        for number, block in enumerate(blocks, start=1):
            step = partial(self._block, block, pack, (cos, sin), number == len(blocks))
            if self._kind == "block" and torch.is_grad_enabled():
                state_TD = checkpoint(step, state_TD, use_reentrant=False)
            else:
                state_TD = step(state_TD)
        return state_TD

    def _block(
        self, block: Block, pack: Pack, cos_sin: Pair, last: bool, state_TD: Tensor
    ) -> Tensor:
        kept_K = pack.kept_K if last else None
        q, k, v = self._ask(self._shape, block, state_TD, cos_sin, kept_K)
        mixed = pack.attend(q, k, v, last).flatten(1)
        state_TD = state_TD if kept_K is None else state_TD[kept_K]
        state_TD = state_TD + project(mixed, block.out)
        if self._kind == "mlp" and torch.is_grad_enabled():
            made: Tensor = checkpoint(self._mlp, self._shape, block, state_TD, use_reentrant=False)
            return made
        return self._mlp(self._shape, block, state_TD)


def _queries_keys(
    shape: Shape, block: Block, state_TD: Tensor, cos_sin: Pair, kept_K: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (T or K, H, S), keys and values (T, key heads, S) of a block."""
    normed_TD = normed(state_TD, block.attention_norm_D, shape.norm_eps)
    n_q, n_k = shape.n_heads, shape.n_key_heads
    (cos, sin), (cos_q, sin_q) = cos_sin, cos_sin
    if kept_K is None:
        qkv = project(normed_TD, block.qkv, block.qkv_bias).view(-1, n_q + 2 * n_k, shape.head_dim)
        q, k, v = qkv.tensor_split((n_q, n_q + n_k), dim=1)
    else:
        (ask, bias), (rest, rest_bias) = _split(block.qkv, block.qkv_bias, n_q * shape.head_dim)
        q = project(normed_TD[kept_K], ask, bias).view(-1, n_q, shape.head_dim)
        kv = project(normed_TD, rest, rest_bias).view(-1, 2 * n_k, shape.head_dim)
        k, v = kv.chunk(2, dim=1)
        cos_q, sin_q = cos[kept_K], sin[kept_K]
    if block.query_norm is not None and block.key_norm is not None:
        q = normed(q, block.query_norm, shape.norm_eps)
        k = normed(k, block.key_norm, shape.norm_eps)
    return rotated(q, cos_q, sin_q), rotated(k, cos, sin), v


def _split(
    weight: Weight, bias: Tensor | None, n_first: int
) -> tuple[tuple[Weight, Tensor | None], tuple[Weight, Tensor | None]]:
    """Queries' share of a joined projection, and the others'."""
    biases = (None, None) if bias is None else (bias[:n_first], bias[n_first:])
    if isinstance(weight, LowRank):
        first, rest = weight.split(1)
        return (first, biases[0]), (rest, biases[1])
    return (weight[:n_first], biases[0]), (weight[n_first:], biases[1])


def _mlp(shape: Shape, block: Block, state_TD: Tensor) -> Tensor:
    gate_up = project(normed(state_TD, block.mlp_norm_D, shape.norm_eps), block.gate_up)
    return state_TD + project(gated(gate_up), block.down)
