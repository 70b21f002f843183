"""Train blocks of a language model below a readout of its answer tokens' states.

    mean:   score(answer) = w . (mean state over the answer's tokens, standardised) + b
            logit = score, or the difference of the two answers' scores: swapping them flips it
    labels: logit = log P(first label's token) - log P(second's) after the row as a question

Losses are those of `train.LOSSES`, as value and slope. On a CPU a batch is divided among threads of
one core each, and gradients are added up in a fixed order.
Legend: N rows, A answers, M = rows x answers, D state width.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aarlab.core.errors import BadInput
from aarlab.testbed.models.compute import Compute, is_out_of_memory
from aarlab.testbed.models.decoder import MATRICES, Block, Decoder
from aarlab.testbed.models.low_rank import LowRank, normed
from aarlab.testbed.students.adapters.adaptation import ADAPTATIONS, Matrix
from aarlab.testbed.students.adapters.packing import Forward, Ints, Pack, Rows
from aarlab.testbed.students.options import AdapterOptions, HeadOptions
from aarlab.testbed.students.train import LOSSES, SIGNS, Batch, Between, Floats, nothing

BUCKETS = 8  # batches that are sorted by length together: parts of a batch end together
WHOLE_BATCH_LOSSES = ("aux_confidence",)  # a row's target depends on its batch


@dataclass(frozen=True, slots=True)
class Readout:
    """A linear function of a state.

    With `norm_D` the state goes through the model's last norm first, and no part of the readout is
    trained. Otherwise the state is standardised.
    """

    mean_D: Tensor
    scale_D: Tensor
    head_D: Tensor
    bias: Tensor
    norm_D: Tensor | None = None
    eps: float = 0.0

    def scores(self, state_MD: Tensor) -> Tensor:
        if self.norm_D is not None:
            return normed(state_MD, self.norm_D.float(), self.eps) @ self.head_D
        return (state_MD - self.mean_D) / self.scale_D @ self.head_D + self.bias


@dataclass(frozen=True, slots=True)
class Tuned:
    """Trained blocks above the lower states, and the readout."""

    blocks: tuple[Block, ...]
    readout: Readout

    def trained(self) -> list[Tensor]:
        """Return the tensors that the optimiser changes."""
        found = [w for w in (self.readout.head_D, self.readout.bias) if w.requires_grad]
        return found + [w for block in self.blocks for w in trained_weights(block)]


def trained_weights(block: Block) -> list[Tensor]:
    """Return the trained weights of a block."""
    found = list[Tensor]()
    for weight in (getattr(block, name) for name in MATRICES):
        if isinstance(weight, LowRank):
            found += [weight.a_RI, weight.b_OR]
        elif weight.requires_grad:
            found.append(weight)
    return found


def fresh_blocks(
    decoder: Decoder, span: tuple[int, int], adapter: AdapterOptions, seed: int
) -> tuple[Block, ...]:
    """Return the blocks `span` (from, to) of the decoder, made trainable."""
    random, blocks = torch.Generator().manual_seed(seed), []
    adaptation = ADAPTATIONS.get(adapter.kind)
    for block in decoder.blocks[span[0] : span[1]]:
        made: dict[str, Any] = {}
        for name in MATRICES:
            weight_OI = getattr(block, name)
            matrix = Matrix(name, weight_OI, decoder.shape.joined(name, len(weight_OI)))
            made[name] = adaptation.trainable(matrix, adapter, random)
            if not isinstance(made[name], Tensor | LowRank) or made[name].shape != weight_OI.shape:
                raise BadInput(
                    f"adaptation {adapter.kind}: `trainable` must return a tensor or a LowRank of "
                    f"the shape of {name}, {tuple(weight_OI.shape)}"
                )
        blocks.append(replace(block, **made))
    return tuple(blocks)


def mean_readout(decoder: Decoder, states_MD: Floats) -> Readout:
    """Return a zero head on states standardised by those of the untrained model."""
    device = decoder.device
    mean_D = torch.from_numpy(states_MD.mean(axis=0)).to(device)
    scale_D = torch.from_numpy(states_MD.std(axis=0, ddof=1)).to(device).clamp_min(1e-6)
    head = [torch.zeros(n, device=device, requires_grad=True) for n in (len(mean_D), 1)]
    return Readout(mean_D, scale_D, head[0], head[1])


def label_readout(decoder: Decoder, tokens: tuple[int, int]) -> Readout:
    """Return the difference of two tokens' logits, from their two rows of the vocabulary."""
    first_D, second_D = (decoder.head_VD[token].float() for token in tokens)
    zeros, ones = torch.zeros_like(first_D), torch.ones_like(first_D)
    return Readout(
        zeros, ones, first_D - second_D, zeros[:1], decoder.final_norm_D, decoder.shape.norm_eps
    )


@dataclass(slots=True)
class Tuner:
    """One training or prediction.

    At most `tokens` go through the blocks at a time, unless one row is longer. They are divided
    among `n_threads`. `between` is called between two steps of training.
    """

    decoder: Decoder
    tuned: Tuned
    compute: Compute
    n_threads: int = 1
    between: Between = nothing
    tokens: int = field(init=False)
    halved: bool = field(init=False, default=False)
    forward: Forward = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = self.compute.train_tokens
        self.forward = Forward(self.decoder, self.compute)

    def logits(self, rows: Rows, chosen: Ints) -> Tensor:
        """Return the log-odds of label 1 of some rows, shape of `chosen`, float32."""
        places = (chosen[:, None] * rows.answers + np.arange(rows.answers)).ravel()
        pack = Pack(rows, places.tolist(), self.decoder)
        state_MD = pack.means(self.forward.kept_states(self.tuned.blocks, pack))
        scores_BA = self.tuned.readout.scores(state_MD).view(-1, rows.answers)
        return scores_BA @ torch.from_numpy(SIGNS[rows.answers]).to(scores_BA.device)

    def parts(self, rows: Rows, chosen: Ints) -> list[list[Ints]]:
        """Return the rows in turns of at most `tokens`, each divided among the threads."""
        lengths = rows.lengths_N()[chosen]
        turns = _cut(chosen, lengths, max(1, -(-int(lengths.sum()) // self.tokens)))
        return [_cut(turn, rows.lengths_N()[turn], self.n_threads) for turn in turns]


def _cut(chosen: Ints, lengths: Ints, n_parts: int) -> list[Ints]:
    """Cut the rows into parts of neighbours with about as many tokens each."""
    ends = np.cumsum(lengths)
    bounds = np.searchsorted(ends, ends[-1] * np.arange(1, n_parts) / n_parts, side="left") + 1
    return [part for part in np.split(chosen, np.minimum(bounds, len(chosen))) if len(part)]


def tune(
    tuner: Tuner, rows: Rows, targets_N: Floats, weights_N: Floats, options: HeadOptions
) -> Tuned:
    """Train the tuner's weights in place: AdamW, linear schedule, batches of similar length.

    Out of memory: the tokens that go through the model at a time are halved once, then BadInput
    says what to lower.
    """
    rng = np.random.default_rng([options.seed, 3])
    trained, cuda = tuner.tuned.trained(), tuner.decoder.embedding_VD.is_cuda
    optimiser = torch.optim.AdamW(
        trained, lr=options.lr, weight_decay=options.weight_decay, fused=cuda
    )
    batches = [b for _ in range(options.epochs) for b in _batches(rows, options.batch, rng)]
    prior = float(targets_N.mean())
    with _pool(tuner.n_threads) as pool:
        for step, chosen in enumerate(batches):
            tuner.between()
            progress = step / len(batches)
            optimiser.param_groups[0]["lr"] = options.lr * (1 - progress)

            def slopes(logits_B: Floats, part: Ints, progress: float = progress) -> Floats:
                batch = Batch(logits_B, targets_N[part], progress, prior)
                slope_B = LOSSES[options.loss](batch, options).slope_B * weights_N[part]
                return slope_B / np.float32(len(chosen))  # noqa: B023

            whole = options.loss in WHOLE_BATCH_LOSSES
            parts = in_memory(
                tuner,
                lambda: _gradients(tuner, rows, chosen, slopes, whole, pool),  # noqa: B023
            )
            set_gradients(trained, parts)
            optimiser.step()
    return tuner.tuned


Slopes = Callable[[Floats, Ints], Floats]
T = TypeVar("T")


def logits_of(tuner: Tuner, rows: Rows, chosen: Ints) -> Floats:
    """Return log-odds of label 1 (B,) of some rows, without gradients."""
    with _pool(tuner.n_threads) as pool:
        return in_memory(tuner, lambda: _values(pool, tuner, rows, tuner.parts(rows, chosen)))


def gradients_of(tuner: Tuner, rows: Rows, chosen: Ints, slope_B: Floats) -> list[list[Tensor]]:
    """Return gradients of sum(slope * logit) with respect to what is trained, part by part.

    The logits are computed again. Nothing has to stay in memory between the two.
    """
    place = {int(row): at for at, row in enumerate(chosen)}

    def slopes(_: Floats, part: Ints) -> Floats:
        return slope_B[[place[int(row)] for row in part]]

    with _pool(tuner.n_threads) as pool:
        return in_memory(tuner, lambda: _gradients(tuner, rows, chosen, slopes, False, pool))


def in_memory(tuner: Tuner, work: Callable[[], T]) -> T:
    """Return what `work` does, with `tokens` halved once when memory runs out.

    Raises BadInput, which says what to lower, if that is not enough.
    """
    while True:
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if tuner.halved:
                raise BadInput(
                    f"out of memory with {tuner.tokens} tokens at a time: set AARLAB_TRAIN_TOKENS "
                    "lower or AARLAB_CHECKPOINT=block, or train fewer blocks (adapter blocks, rank)"
                ) from error
        # Not in the except block: its traceback would keep the failed attempt's tensors alive.
        tuner.tokens, tuner.halved = max(1, tuner.tokens // 2), True
        torch.cuda.empty_cache()  # does nothing where CUDA was never used


def _gradients(
    tuner: Tuner, rows: Rows, chosen: Ints, slopes: Slopes, whole: bool, pool: ThreadPoolExecutor
) -> list[list[Tensor]]:
    """Compute the gradients of one batch, part by part in order."""
    turns, found = tuner.parts(rows, chosen), list[list[Tensor]]()
    if not whole:  # no thread waits for another between forward and backward
        for turn in turns:
            found += pool.map(lambda part: _part_gradients(tuner, rows, part, slopes), turn)
        return found
    given: Floats | None = None
    if len(turns) > 1:  # the loss of a row needs all logits: one more pass
        given = slopes(
            _values(pool, tuner, rows, turns),
            np.concatenate([part for turn in turns for part in turn]),
        )
    trained = tuner.tuned.trained()
    for turn in turns:
        logits = list(pool.map(lambda part: tuner.logits(rows, part), turn))
        rows_of_turn = np.concatenate(turn)
        if given is None:
            values = np.concatenate([one.detach().cpu().numpy() for one in logits])
            slope = slopes(values, rows_of_turn)
        else:
            slope, given = given[: len(rows_of_turn)], given[len(rows_of_turn) :]
        each = torch.split(
            torch.from_numpy(slope).to(logits[0].device), [len(part) for part in turn]
        )
        found += pool.map(
            lambda one: list(torch.autograd.grad(one[0], trained, one[1])),
            zip(logits, each, strict=True),
        )
    return found


def _part_gradients(tuner: Tuner, rows: Rows, part: Ints, slopes: Slopes) -> list[Tensor]:
    logits = tuner.logits(rows, part)
    slope = torch.from_numpy(slopes(logits.detach().cpu().numpy(), part)).to(logits.device)
    return list(torch.autograd.grad(logits, tuner.tuned.trained(), slope))


def _values(
    pool: ThreadPoolExecutor, tuner: Tuner, rows: Rows, turns: Sequence[Sequence[Ints]]
) -> Floats:
    """Compute logits without gradients, part after part."""

    def one(part: Ints) -> Floats:
        with torch.no_grad():
            made: Floats = tuner.logits(rows, part).cpu().numpy()
        return made

    return np.concatenate(list(pool.map(one, [part for turn in turns for part in turn])))


def set_gradients(trained: Sequence[Tensor], parts: Sequence[Sequence[Tensor]]) -> None:
    """Set each weight's gradient to the sum over the parts, in their order."""
    for number, weight in enumerate(trained):
        weight.grad = parts[0][number]
        for part in parts[1:]:
            weight.grad += part[number]


def _batches(rows: Rows, size: int, rng: np.random.Generator) -> list[Ints]:
    """Yield batches with every row once, in an order that is random except for two things.

    Rows of similar length are together. So are rows of one prompt, which is then computed once.
    """
    lengths_N = rows.lengths_N()
    prompts = list(rows.prompts_M[:: rows.answers])
    numbers = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts))}
    prompt_N = np.array([numbers[prompt] for prompt in prompts])
    longest = np.zeros(len(numbers), np.int64)
    np.maximum.at(longest, prompt_N, lengths_N)
    order = rng.permutation(len(rows))
    order = order[np.argsort(rng.permutation(len(numbers))[prompt_N[order]], kind="stable")]
    made = []
    for start in range(0, len(order), size * BUCKETS):
        group = order[start : start + size * BUCKETS]
        group = group[np.lexsort((prompt_N[group], longest[prompt_N[group]]))]
        made += [group[at : at + size] for at in range(0, len(group), size)]
    return [made[i] for i in rng.permutation(len(made))]


def predict(tuner: Tuner, rows: Rows) -> NDArray[np.float64]:
    """Return P(label 1), (N,); a row's result does not depend on the rows next to it."""
    order = np.argsort(rows.lengths_N(), kind="stable")
    probs_N = np.empty(len(rows))
    logits = logits_of(tuner, rows, order).astype(np.float64)
    probs_N[order] = 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
    return probs_N


def copied(tuned: Tuned) -> Tuned:
    """Copy the weights, so that training can continue without changing the original."""
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
    readout = tuned.readout
    if readout.head_D.requires_grad:
        readout = replace(readout, head_D=_leaf(readout.head_D), bias=_leaf(readout.bias))
    return Tuned(tuple(blocks), readout)


def _leaf(weight: Tensor) -> Tensor:
    return weight.detach().clone().requires_grad_(True)


@contextmanager
def _pool(n_threads: int) -> Iterator[ThreadPoolExecutor]:
    """Yield threads of one core each.

    Torch's own threads meet after every operation and busy-wait.
    """
    with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield pool


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Give torch this many threads; heads elsewhere in the process keep theirs."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
