"""A plain Llama-family decoder for frozen states.

It computes what transformers' model classes compute, on one page, over trees of tokens instead of
rows: a prompt shared by several answers runs once.

Legend: B trees, T tokens of a tree (padded), D state width, H query heads, K key heads, F half a
head, V vocabulary, N tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention

from aarlab.core.errors import BadInput
from aarlab.testbed.models.low_rank import Weight, gated, normed, project, rotated

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True, slots=True)
class Shape:
    n_blocks: int
    width: int
    n_heads: int
    n_key_heads: int
    head_dim: int
    norm_eps: float
    rope_theta: float
    max_context: int

    def joined(self, name: str, n_outputs: int) -> tuple[int, ...]:
        """Return the output rows of each projection that a block's matrix joins."""
        if name == "qkv":
            keys = self.n_key_heads * self.head_dim
            return (self.n_heads * self.head_dim, keys, keys)
        return (n_outputs // 2, n_outputs // 2) if name == "gate_up" else (n_outputs,)


MATRICES = ("qkv", "out", "gate_up", "down")


@dataclass(frozen=True, slots=True)
class Block:
    """Weights of one block; (queries, keys, values) and (gate, up) are joined."""

    attention_norm_D: Tensor
    qkv: Weight
    qkv_bias: Tensor | None
    out: Weight
    query_norm: Tensor | None
    key_norm: Tensor | None
    mlp_norm_D: Tensor
    gate_up: Weight
    down: Weight


def shape_of(config: dict[str, Any]) -> Shape:
    """Read a transformers `config.json`; BadInput for an architecture not computed here."""
    family, rope = config.get("model_type"), config.get("rope_parameters") or {}
    if family not in FAMILIES:
        raise BadInput(f"model type {family!r} is not supported; there are: {', '.join(FAMILIES)}")
    scaled = rope.get("rope_type", "default") != "default" or config.get("rope_scaling")
    if scaled or config.get("use_sliding_window") or config.get("hidden_act") != "silu":
        raise BadInput(
            f"{family}: scaled positions, sliding windows or other activations than silu"
        )
    n_heads = int(config["num_attention_heads"])
    window = config.get("sliding_window") or config["max_position_embeddings"]
    return Shape(
        n_blocks=int(config["num_hidden_layers"]),
        width=int(config["hidden_size"]),
        n_heads=n_heads,
        n_key_heads=int(config.get("num_key_value_heads") or n_heads),
        head_dim=int(config.get("head_dim") or config["hidden_size"] // n_heads),
        norm_eps=float(config["rms_norm_eps"]),
        rope_theta=float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0),
        max_context=min(int(config["max_position_embeddings"]), int(window)),
    )


class Memory:
    """Keys and values of one block for the tokens seen so far, (B, S, H, head size)."""

    def __init__(self) -> None:
        self._seen: tuple[Tensor, Tensor] | None = None

    @property
    def length(self) -> int:
        return 0 if self._seen is None else self._seen[0].shape[1]

    def extended(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add keys and values and return all of them, the new ones last."""
        if self._seen is not None:
            keys, values = (
                torch.cat(pair, dim=1) for pair in zip(self._seen, (keys, values), strict=True)
            )
        self._seen = (keys, values)
        return self._seen


class Decoder:
    """Frozen weights; `tensors` has the names that transformers gives them."""

    def __init__(self, shape: Shape, tensors: dict[str, Tensor]) -> None:
        try:
            self.embedding_VD = tensors["model.embed_tokens.weight"]
            self.head_VD = tensors.get("lm_head.weight", self.embedding_VD)
            self.final_norm_D = tensors["model.norm.weight"]
            self.blocks = [_block(tensors, i) for i in range(shape.n_blocks)]
        except KeyError as error:
            raise BadInput(f"the weights lack {error}: not a model of this shape") from error
        self.shape = shape

    @property
    def device(self) -> torch.device:
        return self.embedding_VD.device

    def hidden(
        self, tokens_BT: Tensor, positions_BT: Tensor, visible_BTT: Tensor, n_blocks: int
    ) -> Iterator[Tensor]:
        """Yield the states (B, T, D) after 0, 1, ..., n_blocks blocks.

        `visible_BTT[b, i, j]` says whether token i attends to token j; a row must see a token.
        """
        state_BTD = self.embedding_VD[tokens_BT]
        yield state_BTD
        yield from self.upward(state_BTD, self.blocks[:n_blocks], positions_BT, visible_BTT)

    def upward(
        self,
        state_BTD: Tensor,
        blocks: Sequence[Block],
        positions_BT: Tensor,
        visible_BTT: Tensor | None,
        memories: Sequence[Memory] | None = None,
    ) -> Iterator[Tensor]:
        """Yield the states (B, T, D) after each of the blocks, from given states on.

        Without `visible_BTT` every token sees itself and those before it. With `memories`, one for
        each block, tokens also see what those hold, and `visible` is (B, T, S) over all of it.
        """
        cos_sin = self.rotation(positions_BT, state_BTD.dtype)
        # Attention converts a boolean mask. Converted here, it is converted once for all blocks.
        visible = None if visible_BTT is None else _as_scores(visible_BTT[:, None], state_BTD.dtype)
        for number, block in enumerate(blocks):
            memory = None if memories is None else memories[number]
            attended_BTD = self._attention(block, state_BTD, cos_sin, visible, memory)
            state_BTD = self._mlp(block, attended_BTD)
            yield state_BTD

    def logits(self, state_ND: Tensor) -> Tensor:
        """Return logits (N, V), float32, from the states after the last block."""
        return linear(self._norm(state_ND, self.final_norm_D), self.head_VD).float()

    def log_probs(self, state_ND: Tensor, targets_N: Tensor) -> Tensor:
        """Return log P(target) (N,), float32, from the states after the last block."""
        logits_NV = self.logits(state_ND)
        return logits_NV.gather(1, targets_N[:, None])[:, 0] - logits_NV.logsumexp(dim=1)

    def _norm(self, state: Tensor, weight: Tensor) -> Tensor:
        return normed(state, weight, self.shape.norm_eps)

    def rotation(self, positions_BT: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return cosines and sines of positions of any shape, with a dimension for heads."""
        half = torch.arange(0, self.shape.head_dim, 2, device=positions_BT.device)
        frequency = self.shape.rope_theta ** -(half.float() / self.shape.head_dim)
        angle_BT1F = positions_BT[..., None, None].float() * frequency
        return angle_BT1F.cos().to(dtype), angle_BT1F.sin().to(dtype)

    def _attention(
        self,
        block: Block,
        state_BTD: Tensor,
        cos_sin: tuple[Tensor, Tensor],
        visible: Tensor | None,
        memory: Memory | None,
    ) -> Tensor:
        n_heads, n_keys = self.shape.n_heads, self.shape.n_key_heads
        normed_BTD = self._norm(state_BTD, block.attention_norm_D)
        qkv = project(normed_BTD, block.qkv, block.qkv_bias)
        qkv = qkv.view(*qkv.shape[:2], n_heads + 2 * n_keys, self.shape.head_dim)
        q, k, v = qkv.tensor_split((n_heads, n_heads + n_keys), dim=2)
        if block.query_norm is not None and block.key_norm is not None:
            q, k = self._norm(q, block.query_norm), self._norm(k, block.key_norm)
        q, k = rotated(q, *cos_sin), rotated(k, *cos_sin)
        if memory is not None:
            k, v = memory.extended(k, v)
        # Copying the few key heads out is faster here than asking the kernel for grouped queries.
        k, v = (x.repeat_interleave(n_heads // n_keys, dim=2) for x in (k, v))
        mixed = scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=visible,
            is_causal=visible is None,
        )
        return state_BTD + project(mixed.transpose(1, 2).flatten(2), block.out)

    def _mlp(self, block: Block, state_BTD: Tensor) -> Tensor:
        gate_up = project(self._norm(state_BTD, block.mlp_norm_D), block.gate_up)
        return state_BTD + project(gated(gate_up), block.down)


def _as_scores(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what attention adds to its scores: 0 for visible tokens, minus infinity for others."""
    return torch.zeros_like(visible, dtype=dtype).masked_fill_(~visible, -torch.inf)


def _block(tensors: dict[str, Tensor], index: int) -> Block:
    prefix = f"model.layers.{index}."
    attention, mlp = prefix + "self_attn.", prefix + "mlp."
    biases = [tensors.get(f"{attention}{x}_proj.bias") for x in "qkv"]
    present = [bias for bias in biases if bias is not None]
    unknown = {f"{attention}o_proj.bias", f"{mlp}down_proj.bias"} & tensors.keys()
    if unknown or len(present) not in (0, 3):
        raise BadInput(f"block {index} has biases that this decoder does not compute: {unknown}")
    return Block(
        attention_norm_D=tensors[prefix + "input_layernorm.weight"],
        qkv=torch.cat([tensors[f"{attention}{x}_proj.weight"] for x in "qkv"]),
        qkv_bias=torch.cat(present) if present else None,
        out=tensors[attention + "o_proj.weight"],
        query_norm=tensors.get(attention + "q_norm.weight"),
        key_norm=tensors.get(attention + "k_norm.weight"),
        mlp_norm_D=tensors[prefix + "post_attention_layernorm.weight"],
        gate_up=torch.cat([tensors[f"{mlp}{x}_proj.weight"] for x in ("gate", "up")]),
        down=tensors[mlp + "down_proj.weight"],
    )
