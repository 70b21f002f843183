"""Text from the frozen decoder: greedy or sampled, batched, with cached keys and values.

Legend: B prompts of a batch (padded at the left), T tokens of the prompts, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from aarlab.core.errors import BadInput
from aarlab.testbed.models.decoder import Memory
from aarlab.testbed.models.lm import LanguageModel
from aarlab.testbed.options import GenerateOptions


def generate(model: LanguageModel, prompts: Sequence[str], options: GenerateOptions) -> list[str]:
    """One continuation of each prompt (put into the model's template), up to a stop string.

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
    longest = max(map(len, prompts))
    pads_B = torch.tensor([longest - len(ids) for ids in prompts])
    tokens_BT = torch.tensor([(*[0] * (longest - len(ids)), *ids) for ids in prompts])
    memories = [Memory() for _ in model.decoder.blocks]
    made: list[list[int]] = [[] for _ in prompts]
    texts: list[str | None] = [None] * len(prompts)
    for step in range(options.max_new):
        last_BD = _forward(model, tokens_BT, pads_B, memories)
        next_B = _pick(model.decoder.logits(last_BD), options.temperature, random)
        tokens_BT = next_B[:, None]
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
    """State of the last token (B, D); the memories grow by these tokens."""
    seen, length = memories[0].length, tokens_BT.shape[1]
    places = torch.arange(seen + length)
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
    """The text before the first stop string, None while there is none."""
    found = [at for stop in stops if (at := text.find(stop)) > 0]
    return text[: min(found)] if found else None
