"""One run of a recipe: what its stages share."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from aarlab.core.types import Example
from aarlab.testbed.features import AnswerLogp
from aarlab.testbed.folds import Ints
from aarlab.testbed.recipe import Recipe
from aarlab.testbed.stages.zero_shot import ZeroShot
from aarlab.testbed.student import StudentFactory
from aarlab.testbed.task import TrainTask

Floats64 = NDArray[np.float64]
CLIP = 1e-3


@dataclass(frozen=True)
class RecipeRun:
    """A recipe on a task with one seed; zero-shot scores are asked for only when a stage needs
    them."""

    recipe: Recipe
    task: TrainTask
    factory: StudentFactory
    seed: int

    @cached_property
    def logp(self) -> AnswerLogp:
        """Zero-shot scores of the train rows."""
        return self.factory.zero_shot(self.task.inputs)

    @cached_property
    def zero_shot(self) -> ZeroShot:
        return ZeroShot(self.logp, float(self.task.weak_labels_N.mean()))

    def margins(self, kind: str) -> Floats64:
        """Zero-shot margins of the train rows, shape (N,)."""
        return self.zero_shot.margins(self.logp, kind)

    def inner_seed(self, *place: int) -> int:
        """A seed of its own for each place (stage, round, fold, member) of this run."""
        return int(np.random.SeedSequence([self.seed, *place]).generate_state(1)[0])

    def rows(self, rows: Ints) -> list[Example]:
        return [self.task.inputs[i] for i in rows]

    def groups(self, rows: Ints) -> Sequence[str]:
        return [self.task.groups[i] for i in rows]


def log_odds(probs_N: Floats64) -> Floats64:
    """Log-odds of probabilities kept inside [CLIP, 1 - CLIP]."""
    clipped = np.clip(probs_N, CLIP, 1 - CLIP)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))
