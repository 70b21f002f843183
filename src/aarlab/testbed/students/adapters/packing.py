"""Pack rows one after the other, without padding, and run them through trainable blocks.

Answers to one prompt share its tokens: a *bundle* is a prompt and the answers that branch off it.
In the last block only the answers' tokens have queries (`kept`), because nothing above it reads the
others. `Forward` computes what `Decoder.upward` does, for training.

Legend: M answers, T tokens of all bundles in a pack, K kept tokens, D state width, H heads, S size
of a head.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import pad, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from aarlab.testbed.models.compute import Compute
from aarlab.testbed.models.decoder import Block, Decoder, Shape
from aarlab.testbed.models.low_rank import LowRank, Weight, gated, normed, project, rotated
from aarlab.testbed.models.token_states import RowStates, RowTokens

PLAIN_KEYS = 1024
# On a CPU sizes are multiples of these: each new one costs its kernels half a millisecond and more.
STEP, SHORT_STEP = 64, 32
RAGGED_TYPES = (torch.bfloat16, torch.float16)  # what the CUDA kernel takes
Ints = NDArray[np.int64]
Lower = RowStates | RowTokens


@dataclass(frozen=True, slots=True)
class Rows:
    """What lies below the trained blocks, of N x A answers in row order, and A.

    `prompts_M` is alike for answers to the same prompt.
    """

    lower_M: Sequence[Lower]
    answers: int
    prompts_M: Sequence[object]

    def __len__(self) -> int:
        return len(self.lower_M) // self.answers

    def lengths_N(self) -> Ints:
        """Return the number of tokens of each row."""
        lengths_M: Ints = np.array([row.n_tokens for row in self.lower_M], np.int64)
        lengths_N: Ints = lengths_M.reshape(-1, self.answers).sum(axis=1)
        return lengths_N

    @property
    def n_cut(self) -> int:
        """Return the number of rows of which an answer or its prompt was cut to fit the context."""
        cut_M = np.array([row.cut for row in self.lower_M])
        return int(cut_M.reshape(-1, self.answers).any(axis=1).sum())


class Branch(NamedTuple):
    """An answer's tokens, as a range of the pack."""

    start: int
    end: int


class Bundle(NamedTuple):
    """A prompt's tokens begin at `start`; the branches follow one after the other."""

    start: int
    branches: tuple[Branch, ...]

    @property
    def n_prompt(self) -> int:
        return self.branches[0].start - self.start

    @property
    def end(self) -> int:
        return self.branches[-1].end


class Pack:
    """M answers ready for the blocks, in the order of `places`.

    On a CPU T and K are filled up to multiples of STEP by tokens that are not attended to and do
    not count towards any answer.
    """

    def __init__(self, rows: Rows, places: Sequence[int], decoder: Decoder) -> None:
        device = decoder.device
        by_prompt: dict[object, list[int]] = {}
        for number, place in enumerate(places):
            lower = rows.lower_M[place]
            key = (rows.prompts_M[place], lower.n_prompt) if not lower.cut else number
            by_prompt.setdefault(key, []).append(number)
        self.bundles, at = list[Bundle](), 0
        parts, positions, answers = list[Lower](), list[Ints](), list[int]()
        for numbers in by_prompt.values():
            first = rows.lower_M[places[numbers[0]]]
            start, branches = at, []
            at += first.n_prompt
            for number in numbers:
                lower = rows.lower_M[places[number]]
                branches.append(Branch(at, at := at + lower.n_tokens - lower.n_prompt))
                positions.append(np.arange(lower.n_prompt if branches[1:] else 0, lower.n_tokens))
                answers.append(number)
                parts.append(lower.tail() if branches[1:] else lower)
            self.bundles.append(Bundle(start, tuple(branches)))
        step = STEP if device.type == "cpu" else 1
        padding = -at % step
        self.state_TD = pad(_below(parts, decoder), (0, 0, 0, padding))
        positions.append(np.zeros(padding, np.int64))
        self.positions_T = torch.from_numpy(np.concatenate(positions)).to(device)
        counts = np.array([b.end - b.start for bundle in self.bundles for b in bundle.branches])
        answer_K = np.repeat(answers, counts)
        share_K = np.repeat(1 / counts, counts).astype(np.float32)
        kept = [np.arange(one.branches[0].start, one.end) for one in self.bundles]
        kept_K, rest = np.concatenate(kept), (0, -len(share_K) % step)
        self.kept_K = torch.from_numpy(np.pad(kept_K, rest)).to(device)
        self.answer_K = torch.from_numpy(np.pad(answer_K, rest)).to(device)
        self.share_K = torch.from_numpy(np.pad(share_K, rest)).to(device)
        self.n_answers = len(places)

    def means(self, state_KD: Tensor) -> Tensor:
        """Return the mean over each answer's tokens, (M, D), float32."""
        weighed_KD = state_KD.float() * self.share_K[:, None]
        zeros = weighed_KD.new_zeros(self.n_answers, state_KD.shape[1])
        return zeros.index_add(0, self.answer_K, weighed_KD)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, kept: bool) -> Tensor:
        """Return the attention of (T or K, H, S) queries to (T, heads, S) keys.

        A token sees itself and what precedes it in its prompt and answer. With `kept` the queries
        are those of kept tokens.
        """
        if q.is_cuda and q.dtype in RAGGED_TYPES:
            return self._ragged(q, k, v, kept)
        repeat = q.shape[1] // k.shape[1]
        k, v = (x.repeat_interleave(repeat, dim=1) for x in (k, v))
        mixed = [_attended(*one) for one in self._bundled(q, k, v, kept)]
        unseen = q.new_zeros(len(q) - sum(map(len, mixed)), *q.shape[1:])
        return torch.cat([*mixed, unseen])

    def _bundled(
        self, q: Tensor, k: Tensor, v: Tensor, kept: bool
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
        """Yield queries, keys and values of each bundle, and which keys a query sees."""
        sizes = [b.end - b.start - (b.n_prompt if kept else 0) for b in self.bundles]
        whole = [b.end - b.start for b in self.bundles]
        q, k, v = q[: sum(sizes)], k[: sum(whole)], v[: sum(whole)]
        parts = (torch.split(q, sizes), torch.split(k, whole), torch.split(v, whole))
        visible = self._visible_last if kept else self._visible_all
        yield from zip(*parts, visible, strict=True)

    @cached_property
    def _visible_all(self) -> list[Tensor | None]:
        return [_visible(bundle, False) for bundle in self.bundles]

    @cached_property
    def _visible_last(self) -> list[Tensor | None]:
        return [_visible(bundle, True) for bundle in self.bundles]

    def _ragged(self, q: Tensor, k: Tensor, v: Tensor, kept: bool) -> Tensor:
        """Return attention by the kernel for rows of different lengths.

        It is causal from the last token back.
        """
        ragged = self._last if kept else self._all
        if ragged.keys is not None:
            k, v = k[ragged.keys], v[ragged.keys]
        made: Tensor = varlen_attn(  # type: ignore[assignment]
            q.contiguous(),
            k.contiguous(),
            v.contiguous(),
            ragged.q_ends,
            ragged.k_ends,
            ragged.longest_q,
            ragged.longest_k,
            window_size=(-1, 0),
            enable_gqa=True,
        )
        return made

    @cached_property
    def _all(self) -> "Ragged":
        return _ragged(self.bundles, False, self.kept_K.device)

    @cached_property
    def _last(self) -> "Ragged":
        return _ragged(self.bundles, True, self.kept_K.device)


class Ragged(NamedTuple):
    """Where each row's queries and keys end.

    `keys` are the places of its keys. It is None where these are the tokens as they lie.
    """

    q_ends: Tensor
    k_ends: Tensor
    longest_q: int
    longest_k: int
    keys: Tensor | None


def _ragged(bundles: Sequence[Bundle], kept: bool, device: torch.device) -> Ragged:
    """Make a row for each branch; the first one's queries hold the prompt too, unless `kept`."""
    n_queries, n_keys, keys = list[int](), list[int](), list[Ints]()
    for bundle in bundles:
        for number, branch in enumerate(bundle.branches):
            own = branch.end - branch.start
            n_queries.append(own if kept or number else own + bundle.n_prompt)
            n_keys.append(own + bundle.n_prompt)
            prompt = np.arange(bundle.start, bundle.start + bundle.n_prompt)
            keys.append(np.concatenate([prompt, np.arange(branch.start, branch.end)]))
    shared = any(len(bundle.branches) > 1 for bundle in bundles)
    ends = [torch.tensor([0, *np.cumsum(n)], dtype=torch.int32) for n in (n_queries, n_keys)]
    places = torch.from_numpy(np.concatenate(keys)).to(device) if shared else None
    return Ragged(ends[0].to(device), ends[1].to(device), max(n_queries), max(n_keys), places)


def _attended(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None) -> Tensor:
    """Return the attention of one bundle, written out for short rows.

    On a CPU the backward pass of the fused kernel takes four times as long for them.
    """
    visible = None if visible is None else visible.to(q.device)
    if len(k) <= PLAIN_KEYS:
        return _plainly(q, k, v, visible)
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    mixed = scaled_dot_product_attention(q, k, v, attn_mask=visible, is_causal=visible is None)
    return mixed[0].transpose(0, 1)


def _plainly(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None) -> Tensor:
    """Attend with queries and keys padded to multiples of SHORT_STEP; added keys are hidden."""
    if visible is None:
        visible = torch.ones(len(q), len(k), dtype=torch.bool, device=q.device).tril_()
    more_q, more_k = -len(q) % SHORT_STEP, -len(k) % SHORT_STEP
    hidden = torch.zeros_like(visible, dtype=q.dtype).masked_fill_(~visible, -torch.inf)
    hidden = pad(pad(hidden, (0, more_k), value=-torch.inf), (0, 0, 0, more_q))
    queries, keys, values = (
        pad(x.transpose(0, 1), (0, 0, 0, more))
        for x, more in ((q, more_q), (k, more_k), (v, more_k))
    )
    scale = q.shape[-1] ** -0.5
    score = torch.baddbmm(
        hidden.expand(len(queries), -1, -1), queries, keys.transpose(1, 2), alpha=scale
    )
    return torch.bmm(score.softmax(-1), values).transpose(0, 1)[: len(q)]


def _visible(bundle: Bundle, kept: bool) -> Tensor | None:
    """Return the keys (columns) that each query (row) of a bundle sees.

    Returns None for plain causal attention.
    """
    if len(bundle.branches) == 1 and not kept:
        return None
    n, branch_T = bundle.end - bundle.start, np.zeros(bundle.end - bundle.start, np.int64)
    for number, branch in enumerate(bundle.branches, start=1):
        branch_T[branch.start - bundle.start : branch.end - bundle.start] = number
    same = (branch_T[:, None] == branch_T[None]) | (branch_T[None] == 0)
    visible_TT = same & np.tri(n, dtype=bool)
    return torch.from_numpy(visible_TT[bundle.n_prompt :] if kept else visible_TT)


def _below(parts: Sequence[Lower], decoder: Decoder) -> Tensor:
    """Return states (T, D) below the trained blocks, on the model's device in its type."""
    like = decoder.embedding_VD
    if isinstance(parts[0], RowTokens):
        ids_T = np.concatenate([p.ids_T for p in parts if isinstance(p, RowTokens)])
        return like[torch.from_numpy(ids_T.astype(np.int64)).to(like.device)]
    bits_TD = np.concatenate([p.bits_TD for p in parts if isinstance(p, RowStates)])
    state_TD = torch.from_numpy(bits_TD.view(np.int16)).view(torch.bfloat16)
    return state_TD.to(like.device, like.dtype)


Pair = tuple[Tensor, Tensor]


class Forward:
    """Run packs through trainable blocks.

    `compute.checkpoint` keeps less for the backward pass: "mlp" recomputes the wide half of each
    block, "block" all of it. `compute.compile` fuses what lies between the matrix products.
    """

    def __init__(self, decoder: Decoder, compute: Compute) -> None:
        self._shape, self._decoder, self._kind = decoder.shape, decoder, compute.checkpoint
        fused: Callable[[Any], Any] = partial(torch.compile, dynamic=True)
        self._mlp = fused(_mlp) if compute.compile else _mlp
        self._ask = fused(_queries_keys) if compute.compile else _queries_keys

    def kept_states(self, blocks: Sequence[Block], pack: Pack) -> Tensor:
        """Return states (K, D) of the answers' tokens after the blocks.

        The last block computes no other states.
        """
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
    """Return queries (T or K, H, S), keys and values (T, key heads, S) of a block."""
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
    """Split a joined projection into the queries' share and the others'."""
    biases = (None, None) if bias is None else (bias[:n_first], bias[n_first:])
    if isinstance(weight, LowRank):
        first, rest = weight.split(1)
        return (first, biases[0]), (rest, biases[1])
    return (weight[:n_first], biases[0]), (weight[n_first:], biases[1])


def _mlp(shape: Shape, block: Block, state_TD: Tensor) -> Tensor:
    gate_up = project(normed(state_TD, block.mlp_norm_D, shape.norm_eps), block.gate_up)
    return state_TD + project(gated(gate_up), block.down)
