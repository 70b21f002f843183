"""Text from the frozen decoder, and next-token training of a few of its blocks.

Generation is greedy or sampled, batched, with cached keys and values. Training is supervised
finetuning, or policy gradients by weights: a completion counts with its weight. An advantage as
weight makes the step a policy-gradient step (on-policy, one update: GRPO without clipping).

Legend: B prompts of a batch (padded at the left), T tokens of the prompts or of a row, V
vocabulary, M completion tokens.
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from aarlab.core.errors import BadInput
from aarlab.testbed.models.answers import AnswerItem
from aarlab.testbed.models.decoder import Block, Memory
from aarlab.testbed.models.lm import LanguageModel
from aarlab.testbed.models.low_rank import LowRank
from aarlab.testbed.models.token_states import RowStates
from aarlab.testbed.students.adapters.tuning import fresh_blocks, threads, trained_weights
from aarlab.testbed.students.options import GenerateOptions, LmOptions


def generate(model: LanguageModel, prompts: Sequence[str], options: GenerateOptions) -> list[str]:
    """Generate one continuation of each prompt (in the model's template), up to a stop string.

    Temperature 0 is greedy. The same seed, prompts and options give the same texts. A prompt too
    long for the context loses its start. Raises BadInput when nothing can follow.
    """
    if options.max_new >= model.context:
        raise BadInput(f"max_new {options.max_new} leaves no room for a prompt in {model.context}")
    room = model.context - options.max_new
    tokens = [ids[-room:] for ids in model.prompt_tokens(prompts)]
    order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
    random, texts = torch.Generator().manual_seed(options.seed), [""] * len(tokens)
    for start in range(0, len(order), options.batch):
        part = order[start : start + options.batch]
        for i, text in zip(
            part, _batch(model, [tokens[i] for i in part], options, random), strict=True
        ):
            texts[i] = text
    return texts


@torch.inference_mode()
def _batch(
    model: LanguageModel,
    prompts: list[tuple[int, ...]],
    options: GenerateOptions,
    random: torch.Generator,
) -> list[str]:
    longest, device = max(map(len, prompts)), model.decoder.device
    pads_B = torch.tensor([longest - len(ids) for ids in prompts], device=device)
    tokens_BT = torch.tensor(
        [(*[0] * (longest - len(ids)), *ids) for ids in prompts], device=device
    )
    memories = [Memory() for _ in model.decoder.blocks]
    made: list[list[int]] = [[] for _ in prompts]
    texts: list[str | None] = [None] * len(prompts)
    for step in range(options.max_new):
        model.between()
        last_BD = _forward(model, tokens_BT, pads_B, memories)
        next_B = _pick(model.decoder.logits(last_BD).cpu(), options.temperature, random)
        tokens_BT = next_B[:, None].to(device)
        for row, token in enumerate(next_B.tolist()):
            if texts[row] is None:
                made[row].append(token)
                texts[row] = _stopped(model.text(made[row]), options.stop)
        if all(text is not None for text in texts) or step + 1 == options.max_new:
            break
    return [model.text(ids) if t is None else t for ids, t in zip(made, texts, strict=True)]


def _forward(
    model: LanguageModel, tokens_BT: Tensor, pads_B: Tensor, memories: list[Memory]
) -> Tensor:
    """Return the state of the last token (B, D); the memories grow by these tokens."""
    seen, length = memories[0].length, tokens_BT.shape[1]
    places = torch.arange(seen + length, device=pads_B.device)
    new_T = places[seen:]
    positions_BT = (new_T[None] - pads_B[:, None]).clamp_min(0)
    causal_TS = places[None] <= new_T[:, None]
    real_BS = places[None] >= pads_B[:, None]
    own_TS = places[None] == new_T[:, None]  # padding sees itself: no row is empty
    visible_BTS = (causal_TS[None] & real_BS[:, None]) | own_TS[None]
    decoder = model.decoder
    state_BTD = decoder.embedding_VD[tokens_BT]
    steps = decoder.upward(state_BTD, decoder.blocks, positions_BT, visible_BTS, memories)
    for state in steps:
        state_BTD = state
    return state_BTD[:, -1]


def _pick(logits_BV: Tensor, temperature: float, random: torch.Generator) -> Tensor:
    if temperature == 0:
        return logits_BV.argmax(dim=-1)
    return torch.multinomial((logits_BV / temperature).softmax(dim=-1), 1, generator=random)[:, 0]


def _stopped(text: str, stops: Sequence[str]) -> str | None:
    """Return the text before the first stop string, or None while there is none."""
    found = [at for stop in stops if (at := text.find(stop)) > 0]
    return text[: min(found)] if found else None


def finetune_lm(
    model: LanguageModel,
    texts: Sequence[AnswerItem],
    options: LmOptions,
    weights: Sequence[float] | None = None,
) -> LanguageModel:
    """Train the blocks `span` on log P(answer | prompt), mean per token, and return a new model.

    The given model stays as it was. LoRA, AdamW, linear schedule. States below the span are
    computed once.
    """
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
    orders = [rng.permutation(len(texts)).tolist() for _ in range(options.epochs)]
    parts = [
        order[start : start + options.batch]
        for order in orders
        for start in range(0, len(texts), options.batch)
    ]
    with threads(model.n_threads):
        for step, part in enumerate(parts):
            model.between()
            optimiser.param_groups[0]["lr"] = options.lr * (1 - step / len(parts))
            optimiser.zero_grad(set_to_none=True)
            for i in part:
                loss = -_mean_logp(model, blocks, lower[i], targets[i]) * (weights_N[i] / len(part))
                loss.backward()
            optimiser.step()
    return _with_blocks(model, first, tuned)


def _mean_logp(
    model: LanguageModel, blocks: Sequence[Block], row: RowStates, answer: Sequence[int]
) -> Tensor:
    """Return the mean log-probability of the answer's tokens, with gradient."""
    bits = torch.from_numpy(np.array(row.bits_TD).view(np.int16)).view(torch.bfloat16)
    embedding_VD, device = model.decoder.embedding_VD, model.decoder.device
    state_BTD = bits.to(device, embedding_VD.dtype)[None]
    positions = torch.arange(state_BTD.shape[1], device=device)[None]
    for state in model.decoder.upward(state_BTD, blocks, positions, None):
        state_BTD = state
    states_MD = state_BTD[0, row.n_prompt - 1 : -1]
    return model.decoder.log_probs(states_MD, torch.tensor(answer, device=device)).mean()


def _with_blocks(model: LanguageModel, first: int, blocks: Sequence[Block]) -> LanguageModel:
    """Return the model with these blocks' updates folded in."""
    from dataclasses import fields, replace

    decoder = copy.copy(model.decoder)
    decoder.blocks = list(decoder.blocks)
    for number, block in enumerate(blocks, start=first):
        weights = {f.name: getattr(block, f.name) for f in fields(block)}
        merged = {k: w.merged() for k, w in weights.items() if isinstance(w, LowRank)}
        decoder.blocks[number] = replace(block, **merged)
    return model.with_decoder(decoder)
