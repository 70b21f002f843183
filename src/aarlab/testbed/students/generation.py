"""Texts by the strong model about rows, which stay on the server.

Out of memory: the batch is halved once, then BadInput says what to lower.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aarlab.core.errors import BadInput
from aarlab.core.types import Example
from aarlab.testbed.students.options import GenerateOptions
from aarlab.testbed.students.templates import Template

if TYPE_CHECKING:
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
