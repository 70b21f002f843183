"""Texts by the strong model about rows, and what the model learns from them.

Out of memory: the batch is halved once, then BadInput says what to lower.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import BadInput
from aarlab.core.types import Example
from aarlab.testbed.students.options import GenerateOptions, LmOptions
from aarlab.testbed.students.templates import Template

if TYPE_CHECKING:
    from aarlab.testbed.models.cache import FeatureCache
    from aarlab.testbed.models.lm import LanguageModel

MAX_TEXTS = 20_000  # of one call
BLANK = " nothing"  # in place of a text without any letter, which nothing can be said about


@dataclass(frozen=True, slots=True)
class Texts:
    """One generated text for each row of a call."""

    texts: tuple[str, ...]

    @property
    def n_bytes(self) -> int:
        return sum(len(text.encode()) for text in self.texts)


def one_kind(rows: Sequence[Example]) -> int:
    """Return how many answers each row has; raises BadInput for rows of two kinds or none."""
    counts = {len(row.answers) for row in rows}
    if len(counts) != 1:
        raise BadInput(f"expected rows with one number of answers, got {counts or 'none'}")
    return counts.pop()


def tuned_source(
    model: "LanguageModel",
    rows: Sequence[Example],
    texts: Texts | None,
    options: LmOptions,
    weights_N: NDArray[np.floating] | None = None,
) -> "FeatureCache":
    """Return the features of a model trained on the texts that follow the rows' prompts.

    They are the rows' answers, or one of `texts` for each. Raises BadInput for other sizes, and
    for weights that are no numbers.
    """
    from aarlab.testbed.models.answers import AnswerItem
    from aarlab.testbed.models.cache import FeatureCache, ModelId
    from aarlab.testbed.models.generate import finetune_lm

    if texts is not None and len(texts.texts) != len(rows):
        raise BadInput("texts: expected generated texts, one text for each row")
    said = [row.answers for row in rows] if texts is None else [(text,) for text in texts.texts]
    items = [AnswerItem(r.prompt, a) for r, own in zip(rows, said, strict=True) for a in own]
    weights = None
    if weights_N is not None:
        weights_N = np.asarray(weights_N)
        if weights_N.shape != (len(rows),) or weights_N.dtype.kind != "f":
            raise BadInput(f"weights: expected one number for each of {len(rows)} rows")
        if not np.isfinite(weights_N).all():
            raise BadInput("weights: NaN or infinity")
        weights = np.repeat(weights_N, [len(own) for own in said]).tolist()
    tuned = finetune_lm(model, items, options, weights)
    return FeatureCache([], ModelId("tuned", tuned.key), None, lambda: tuned)


def written(
    model: "LanguageModel",
    rows: Sequence[Example],
    template: Template,
    n: int,
    options: GenerateOptions,
) -> list[Texts]:
    """Return `n` texts for each row: the first of every row, the second of every row, and so on.

    A row's prompt is the filled template. Temperature 0 gives the same text n times.
    """
    if not 1 <= n * len(rows) <= MAX_TEXTS:
        raise BadInput(f"generate: {n} texts for {len(rows)} rows; 1 to {MAX_TEXTS:,} in all")
    filled = template.fill_all(rows, [()] * len(rows))
    prompts = [row.prompt for row in filled for _ in range(n)]
    made = _in_memory(model, prompts, options)
    made = [text if text.strip() else BLANK for text in made]
    return [Texts(tuple(made[k::n])) for k in range(n)]


def _in_memory(
    model: "LanguageModel", prompts: Sequence[str], options: GenerateOptions
) -> list[str]:
    import torch

    from aarlab.testbed.models.compute import is_out_of_memory
    from aarlab.testbed.models.generate import generate

    for size in (options.batch, max(1, options.batch // 2)):
        try:
            return generate(model, prompts, options.model_copy(update={"batch": size}))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        torch.cuda.empty_cache()  # does nothing where CUDA was never used
    raise BadInput(
        f"out of memory with {max(1, options.batch // 2)} texts at a time: lower batch or max_new"
    )
