"""Next-token training of a few blocks: supervised finetuning, and policy gradients by weights.

A completion weighs in with its weight; an advantage as weight makes the step a policy-gradient step
(on-policy, one update: GRPO without clipping). Legend: T tokens of a row, M completion tokens.
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from aarlab.core.errors import BadInput
from aarlab.testbed.adapters.tuning import fresh_blocks, threads, trained_weights
from aarlab.testbed.models.answers import AnswerItem
from aarlab.testbed.models.decoder import Block
from aarlab.testbed.models.lm import LanguageModel
from aarlab.testbed.models.low_rank import LowRank
from aarlab.testbed.models.token_states import RowStates
from aarlab.testbed.options import LmOptions


def finetune_lm(
    model: LanguageModel,
    texts: Sequence[AnswerItem],
    options: LmOptions,
    weights: Sequence[float] | None = None,
) -> LanguageModel:
    """A model whose blocks `span` were trained on log P(answer | prompt), mean per token; the given
    one stays as it was. LoRA, AdamW, linear schedule; states below the span are computed once."""
    first, last = options.span or (model.decoder.shape.n_blocks - 3, model.decoder.shape.n_blocks)
    if not 0 <= first < last <= model.decoder.shape.n_blocks or not texts:
        raise BadInput(f"cannot train blocks {first} to {last} on {len(texts)} texts")
    lower = model.row_states(texts, first)
    targets = [row.tail().ids_T.tolist() for row in model.row_tokens(texts)]
    weights_N = np.ones(len(texts)) if weights is None else np.asarray(weights, np.float64)
    tuned = fresh_blocks(model.decoder, (first, last), options.adapter, options.seed)
    blocks = [*tuned, *model.decoder.blocks[last:]]
    trained = [w for block in tuned for w in trained_weights(block)]
    optimiser = torch.optim.AdamW(trained, lr=options.lr, weight_decay=0.0)
    rng = np.random.default_rng([options.seed, 8])
    starts = [
        part for _ in range(options.epochs) for part in _parts(len(texts), options.batch, rng)
    ]
    with threads(model.n_threads):
        for step, part in enumerate(starts):
            optimiser.param_groups[0]["lr"] = options.lr * (1 - step / len(starts))
            optimiser.zero_grad(set_to_none=True)
            for i in part:
                loss = -_mean_logp(model, blocks, lower[i], targets[i]) * (weights_N[i] / len(part))
                loss.backward()
            optimiser.step()
    return _with_blocks(model, first, tuned)


def _parts(n: int, size: int, rng: np.random.Generator) -> list[list[int]]:
    order = rng.permutation(n).tolist()
    return [order[start : start + size] for start in range(0, n, size)]


def _mean_logp(
    model: LanguageModel, blocks: Sequence[Block], row: RowStates, answer: Sequence[int]
) -> Tensor:
    """Mean log-probability of the answer's tokens, with gradient."""
    bits = torch.from_numpy(np.array(row.bits_TD).view(np.int16)).view(torch.bfloat16)
    state_BTD = bits.to(model.decoder.embedding_VD.dtype)[None]
    positions = torch.arange(state_BTD.shape[1])[None]
    for state in model.decoder.upward(state_BTD, blocks, positions, None):
        state_BTD = state
    states_MD = state_BTD[0, row.n_prompt - 1 : -1]
    return model.decoder.log_probs(states_MD, torch.tensor(answer)).mean()


def _with_blocks(model: LanguageModel, first: int, blocks: Sequence[Block]) -> LanguageModel:
    """The model with these blocks' updates folded in."""
    from dataclasses import fields, replace

    decoder = copy.copy(model.decoder)
    decoder.blocks = list(decoder.blocks)
    for number, block in enumerate(blocks, start=first):
        weights = {f.name: getattr(block, f.name) for f in fields(block)}
        merged = {k: w.merged() for k, w in weights.items() if isinstance(w, LowRank)}
        decoder.blocks[number] = replace(block, **merged)
    return model.with_decoder(decoder)
