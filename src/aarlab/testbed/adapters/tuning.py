"""Train the upper blocks of a language model and a linear head on its mean answer state.

    score(answer) = w . (mean state over the answer's tokens, standardised) + b
    logit = score, or the difference of the two answers' scores: swapping them flips it exactly

Only hidden states at the answer's tokens are used, never the vocabulary. Losses are those of
`losses.py`, as value and slope. Legend: N rows, A answers, M = rows x answers, T tokens (padded at
the end, which causal attention never looks at), D state width.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aarlab.core.errors import BadInput
from aarlab.testbed.losses import LOSSES, Batch, Floats
from aarlab.testbed.models.decoder import MATRICES, Block, Decoder, LowRank
from aarlab.testbed.models.token_states import RowStates
from aarlab.testbed.options import AdapterOptions, HeadOptions
from aarlab.testbed.train import SIGNS

BUCKETS = 8  # batches that are sorted by length together: little padding, still shuffled
PREDICTION_ROWS = 64


class Rows(NamedTuple):
    """Lower states of N x A answers, in row order, and A."""

    states_M: list[RowStates]
    answers: int

    def __len__(self) -> int:
        return len(self.states_M) // self.answers


@dataclass(frozen=True, slots=True)
class Tuned:
    """Trained blocks above the lower states, the final standardisation and the head."""

    blocks: tuple[Block, ...]
    mean_D: Tensor
    scale_D: Tensor
    head_D: Tensor
    bias: Tensor

    def trained(self) -> list[Tensor]:
        """What the optimiser moves."""
        found = [self.head_D, self.bias]
        for block in self.blocks:
            for name in MATRICES:
                weight = getattr(block, name)
                if isinstance(weight, LowRank):
                    found += [weight.a_RI, weight.b_OR]
                elif weight.requires_grad:
                    found.append(weight)
        return found


def fresh(decoder: Decoder, span: tuple[int, int], adapter: AdapterOptions, seed: int) -> Tuned:
    """Blocks `span` (from, to) of the decoder made trainable, a head that says nothing yet."""
    device, random = decoder.embedding_VD.device, torch.Generator().manual_seed(seed)
    blocks = []
    for block in decoder.blocks[span[0] : span[1]]:
        made: dict[str, Any] = {
            name: _trainable(decoder, name, getattr(block, name), adapter, random)
            for name in MATRICES
        }
        blocks.append(replace(block, **made))
    width = decoder.shape.width
    zeros, ones = torch.zeros(width, device=device), torch.ones(width, device=device)
    head = [torch.zeros(size, device=device, requires_grad=True) for size in (width, 1)]
    return Tuned(tuple(blocks), zeros, ones, head[0], head[1])


def _trainable(
    decoder: Decoder, name: str, weight: Tensor, adapter: AdapterOptions, random: torch.Generator
) -> Tensor | LowRank:
    if adapter.kind == "full":
        return weight.float().clone().requires_grad_(True)
    outputs, inputs = weight.shape
    sizes, device = decoder.shape.joined(name, outputs), weight.device
    a_RI = torch.randn(len(sizes) * adapter.rank, inputs, generator=random) / np.sqrt(inputs)
    b_OR = torch.zeros(outputs, adapter.rank)
    return LowRank(
        weight,
        a_RI.to(device).requires_grad_(True),
        b_OR.to(device).requires_grad_(True),
        adapter.alpha / adapter.rank,
        sizes,
    )


@dataclass(slots=True)
class Tuner:
    """One training or prediction; `micro` rows go through the model at a time."""

    decoder: Decoder
    tuned: Tuned
    micro: int
    halved: bool = False

    def scores(self, states_M: Sequence[RowStates]) -> Tensor:
        """Score of each answer, (M,), float32."""
        state_MTD, share_MT = _padded(states_M, self.decoder.embedding_VD)
        positions_MT = torch.arange(state_MTD.shape[1], device=state_MTD.device)[None]
        steps = self.decoder.upward(state_MTD, self.tuned.blocks, positions_MT, None)
        for state in steps:
            state_MTD = state
        mean_MD = torch.einsum("mtd,mt->md", state_MTD.float(), share_MT)
        scaled_MD = (mean_MD - self.tuned.mean_D) / self.tuned.scale_D
        return scaled_MD @ self.tuned.head_D + self.tuned.bias

    def logits(self, rows: Rows, chosen: NDArray[np.int64]) -> Tensor:
        """Log-odds of label 1 of some rows, shape of `chosen`."""
        places = (chosen[:, None] * rows.answers + np.arange(rows.answers)).ravel()
        scores_BA = self.scores([rows.states_M[i] for i in places]).view(-1, rows.answers)
        return scores_BA @ torch.from_numpy(SIGNS[rows.answers]).to(scores_BA.device)

    def means(self, rows: Rows) -> Iterator[Tensor]:
        """Mean answer states above the blocks, batch by batch, (M, D)."""
        for start in range(0, len(rows.states_M), PREDICTION_ROWS):
            part = rows.states_M[start : start + PREDICTION_ROWS]
            state_MTD, share_MT = _padded(part, self.decoder.embedding_VD)
            positions_MT = torch.arange(state_MTD.shape[1], device=state_MTD.device)[None]
            for state in self.decoder.upward(state_MTD, self.tuned.blocks, positions_MT, None):
                state_MTD = state
            yield torch.einsum("mtd,mt->md", state_MTD.float(), share_MT)


def _padded(states_M: Sequence[RowStates], like: Tensor) -> tuple[Tensor, Tensor]:
    """States (M, T, D) in the model's type, zeros at the end, and each answer token's share."""
    longest = max(len(row.bits_TD) for row in states_M)
    bits_MTD = np.zeros((len(states_M), longest, states_M[0].bits_TD.shape[1]), np.uint16)
    share_MT = np.zeros((len(states_M), longest), np.float32)
    for number, row in enumerate(states_M):
        end = len(row.bits_TD)
        bits_MTD[number, :end] = row.bits_TD
        share_MT[number, row.n_prompt : end] = 1 / (end - row.n_prompt)
    state_MTD = torch.from_numpy(bits_MTD.view(np.int16)).view(torch.bfloat16)
    return state_MTD.to(like.device, like.dtype), torch.from_numpy(share_MT).to(like.device)


def tune(
    tuner: Tuner, rows: Rows, targets_N: Floats, weights_N: Floats, options: HeadOptions
) -> Tuned:
    """AdamW, linear schedule, batches of similar length; starts from the tuner's weights.

    Out of memory: the rows that go through the model at a time are halved once, then BadInput says
    what to lower.
    """
    rng = np.random.default_rng([options.seed, 3])
    if not bool((tuner.tuned.scale_D != 1).any()):
        tuner.tuned = _standardised(tuner, rows)
    optimiser = torch.optim.AdamW(
        tuner.tuned.trained(), lr=options.lr, weight_decay=options.weight_decay
    )
    batches = [b for _ in range(options.epochs) for b in _batches(rows, options.batch, rng)]
    prior = float(targets_N.mean())
    for step, chosen in enumerate(batches):
        progress = step / len(batches)
        optimiser.param_groups[0]["lr"] = options.lr * (1 - progress)

        def backward(part: NDArray[np.int64], progress: float = progress) -> None:
            logits_B = tuner.logits(rows, part)
            batch = Batch(logits_B.detach().cpu().numpy(), targets_N[part], progress, prior)
            slope_B = LOSSES[options.loss](batch, options).slope_B * weights_N[part]
            slope = torch.from_numpy(slope_B / np.float32(len(chosen)))  # noqa: B023
            logits_B.backward(slope.to(logits_B.device))  # type: ignore[no-untyped-call]

        optimiser.zero_grad(set_to_none=True)
        _in_parts(tuner, chosen, backward)
        optimiser.step()
    return tuner.tuned


def _in_parts(
    tuner: Tuner, chosen: NDArray[np.int64], backward: Callable[[NDArray[np.int64]], None]
) -> None:
    """Gradients of one batch, `micro` rows at a time; halves `micro` once when memory runs out."""
    try:
        for start in range(0, len(chosen), tuner.micro):
            backward(chosen[start : start + tuner.micro])
        return
    except torch.OutOfMemoryError as error:
        if tuner.halved or tuner.micro < 2:
            raise BadInput(
                f"out of memory with {tuner.micro} rows at a time: lower the student's batch, or "
                "train fewer blocks (adapter blocks, rank)"
            ) from error
    # Not in the except block: its traceback would keep the failed attempt's tensors alive.
    tuner.micro, tuner.halved = tuner.micro // 2, True
    for weight in tuner.tuned.trained():
        weight.grad = None
    _in_parts(tuner, chosen, backward)


def _standardised(tuner: Tuner, rows: Rows) -> Tuned:
    """Mean and spread of the untrained model's answer states on these rows."""
    with torch.no_grad():
        means_MD = torch.cat(list(tuner.means(rows)))
    scale_D = means_MD.std(dim=0).clamp_min(1e-6)
    return replace(tuner.tuned, mean_D=means_MD.mean(dim=0), scale_D=scale_D)


def _batches(rows: Rows, size: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Every row once, rows of similar length together, in random order."""
    lengths_N = np.array([len(row.bits_TD) for row in rows.states_M[:: rows.answers]])
    order, made = rng.permutation(len(rows)), []
    for start in range(0, len(order), size * BUCKETS):
        group = order[start : start + size * BUCKETS]
        group = group[np.argsort(lengths_N[group], kind="stable")]
        made += [group[at : at + size] for at in range(0, len(group), size)]
    return [made[i] for i in rng.permutation(len(made))]


@torch.no_grad()
def predict(tuner: Tuner, rows: Rows) -> NDArray[np.float64]:
    """P(label 1), (N,); a row's result does not depend on the rows beside it."""
    order = np.argsort([len(row.bits_TD) for row in rows.states_M[:: rows.answers]])
    probs_N = np.empty(len(rows))
    for start in range(0, len(order), PREDICTION_ROWS):
        part = order[start : start + PREDICTION_ROWS]
        probs_N[part] = torch.sigmoid(tuner.logits(rows, part).double()).cpu().numpy()
    return probs_N


def copied(tuned: Tuned) -> Tuned:
    """Weights of its own, to go on training without changing the first."""
    blocks = []
    for block in tuned.blocks:
        changed: dict[str, Any] = {}
        for name in (f.name for f in fields(block) if f.name in MATRICES):
            weight = getattr(block, name)
            if isinstance(weight, LowRank):
                changed[name] = replace(weight, a_RI=_leaf(weight.a_RI), b_OR=_leaf(weight.b_OR))
            elif weight.requires_grad:
                changed[name] = _leaf(weight)
        blocks.append(replace(block, **changed))
    return replace(tuned, blocks=tuple(blocks), head_D=_leaf(tuned.head_D), bias=_leaf(tuned.bias))


def _leaf(weight: Tensor) -> Tensor:
    return weight.detach().clone().requires_grad_(True)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch with this many threads; heads elsewhere in the process keep theirs."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
