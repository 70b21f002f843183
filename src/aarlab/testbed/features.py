"""What a method may ask of a frozen language model: states of a layer and answer log-likelihoods.

Legend: N examples, A answers per example (preference rows 2, verification rows 1), D state width.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from aarlab.core.types import Example


class AnswerLogp(NamedTuple):
    """Sums over an answer's tokens, natural log: given the prompt, alone, and how many tokens."""

    given_prompt_NA: NDArray[np.float32]
    alone_NA: NDArray[np.float32]
    tokens_NA: NDArray[np.int32]


class FeatureSource(Protocol):
    """Frozen features of one model; rows seen before come from the cache."""

    def states(self, examples: Sequence[Example], layer: int) -> NDArray[np.float32]:
        """Mean state over each answer's tokens after `layer` blocks, shape (N, A, D)."""
        ...

    def answer_logp(self, examples: Sequence[Example]) -> AnswerLogp:
        """Zero-shot log-likelihood of each answer with and without its prompt."""
        ...

    def layers(self, examples: Sequence[Example]) -> tuple[int, ...]:
        """Layers whose states are at hand for all of these examples, ascending."""
        ...


class ModelSource(FeatureSource, Protocol):
    """A source that has the model itself at hand (`models.lm.LanguageModel`, which needs torch)."""

    def language_model(self) -> Any: ...

    def lower_rows(self, items: Any, layer: int) -> Any:
        """Whole rows after `layer` blocks, see `models.cache.FeatureCache`."""
        ...
