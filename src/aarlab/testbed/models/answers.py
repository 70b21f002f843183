"""What passes between the feature cache and a language model. Imports no torch.

Legend: I items, L layers asked for, D state width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Progress = Callable[[int, int], None]


class AnswerItem(NamedTuple):
    """One answer to one prompt; a preference row holds two."""

    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which features to compute in one pass: states after `layers` blocks, log-likelihoods."""

    layers: tuple[int, ...]
    logp: bool


class AnswerFeatures(NamedTuple):
    """`states_LID` in the order of `Wanted.layers`.

    `logp_I3` holds the natural log of P(answer | prompt), of P(answer), and the number of the
    answer's tokens; None where it was not asked for.
    """

    states_LID: NDArray[np.float32]
    logp_I3: NDArray[np.float32] | None
    n_truncated: int


class AnswerModel(Protocol):
    def features(self, items: Sequence[AnswerItem], wanted: Wanted) -> AnswerFeatures: ...
