"""A research problem: what AARs work on, and how predictions on hidden rows become a figure.

A method is `fit(task, student, seed)` and submits P(label 1) of each row, whatever the problem. The
platform re-runs it on hidden rows, joins the predictions with the labels by row id, and asks the
problem for the figure. A package adds a problem by an entry point that names an object of a class
derived from `Problem`:

    [project.entry-points."aarlab.problems"]
    latent_knowledge = "my_package.latent:PROBLEM"

Legend: S seeds, N rows of a split in the vault's order.

Covered: a `parts` that raises anything but an error of aarlab's, or returns no number for a row, is
reported without its message, which could hold a label. Feedback of a problem without a rule of its
own changes by steps that depend on the number of rows alone (the ladder of Blum and Hardt, arXiv
1502.04585).
Not covered: what the code of an installed problem does. It runs in the server, which reads the
vault.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import AarlabError, Damaged
from aarlab.core.pgr import mean_figure, shrunk_best_mean
from aarlab.core.problem import ProblemFacts
from aarlab.core.types import Split
from aarlab.core.wire import Feedback, Interval

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
GRID = 0.01
SHOWN_DIGITS = 2
Z, SPREAD = 2.0, 0.5  # a step is Z standard errors of a difference per row with this deviation


class Sealed:
    """An object that is never copied, pickled or printed with its content."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} (sealed)>"

    def __reduce_ex__(self, _protocol: Any) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds hidden labels and cannot be pickled")


@dataclass(repr=False, eq=False)
class HiddenRows(Sealed):
    """The labels of one split and the problem (group) of each row.

    `baselines` reads what the build of a weak-to-strong task also stored (its `Baselines`). It
    raises BaselineMissing for any other task.
    """

    task: str
    split: Split
    targets_N: Bools
    groups_N: tuple[str, ...]
    baselines: Callable[[], Any]

    @property
    def where(self) -> str:
        """Name the split in an error."""
        return f"{self.task}, {self.split} split"


class Problem(ABC):
    """A research problem. `facts` are its words, and are stored with each of its tasks.

    A figure is a skill score: higher is better, 0 is what `facts.zero` reaches, 1 is perfect.
    Subclasses say with `parts` how a row counts; intervals, differences, ranking and feedback
    follow. A figure that is not a mean over rows becomes one by its influence function.
    """

    facts: ProblemFacts

    @property
    def name(self) -> str:
        return self.facts.name

    @abstractmethod
    def parts(self, rows: HiddenRows, probs_SN: Floats) -> Floats:
        """Return the part (S, N) of each seed and row, whose mean over all is the figure."""

    def check(self, rows: HiddenRows) -> None:
        """Raise an error of aarlab's unless the split can be scored: by default, of both labels."""
        if rows.targets_N.all() or not rows.targets_N.any():
            raise Damaged(f"{rows.where}: all rows have one label; build the task again")

    def step(self, n_rows: int) -> float:
        """Return the figure by which an AAR's best must be beaten before its feedback changes.

        AARs see it, so it must not depend on labels.
        """
        return max(math.ceil(100 * Z * SPREAD / math.sqrt(n_rows)) / 100, GRID)

    def estimate(self, rows: HiddenRows, probs_SN: Floats) -> Interval:
        """Return the exact figure with its interval over problems and seeds, for the operator."""
        return mean_figure(self._parts(rows, probs_SN), rows.groups_N)

    def difference(self, rows: HiddenRows, new_SN: Floats, other_SN: Floats) -> Interval:
        """Return `new` less `other`, whose runs share seeds, for the operator."""
        parts_SN = self._parts(rows, new_SN) - self._parts(rows, other_SN)
        return mean_figure(parts_SN, rows.groups_N)

    def best(self, rows: HiddenRows, methods: Sequence[Floats]) -> Interval:
        """Return the figure of the first of these methods, less what choosing it flatters it by."""
        return shrunk_best_mean([self._parts(rows, one) for one in methods], rows.groups_N)

    def feedback(
        self, rows: HiddenRows, new_SN: Floats, best_SN: Floats | None, exact: bool
    ) -> Feedback:
        """Return what an AAR learns of a submission, given the predictions of its best so far.

        Shaped: the figures of the best, which `new` replaces only by a clear step. Exact: those of
        `new` itself.
        """
        new = self._parts(rows, new_SN)
        best = None if best_SN is None else self._parts(rows, best_SN)
        step = 0.0 if exact else self.step(len(rows.targets_N))
        # 1e-9: a gain of exactly one step must not pass or fail by a rounding error.
        improved = best is None or float(new.mean()) - float(best.mean()) > step + 1e-9
        shown = mean_figure(new if exact or improved or best is None else best, rows.groups_N)
        if exact:
            value, stderr = shown.value, shown.stderr
        else:
            value = round(round(shown.value / GRID) * GRID, SHOWN_DIGITS)
            stderr = round(shown.stderr, SHOWN_DIGITS)
        return Feedback(pgr=value, stderr=stderr, n=shown.n_rows, step=step, improved=improved)

    def _parts(self, rows: HiddenRows, probs_SN: Floats) -> Floats:
        """Return the checked parts. Raises Damaged, naming no value, for what is not (S, N)."""
        try:
            parts_SN = np.asarray(self.parts(rows, probs_SN), dtype=np.float64)
        except AarlabError:
            raise
        except Exception as error:  # noqa: BLE001 - its text may hold a label, so it is not kept
            raise Damaged(
                f"{rows.where}: the problem {self.name} failed to score ({type(error).__name__})"
            ) from None
        if parts_SN.shape != probs_SN.shape or not np.isfinite(parts_SN).all():
            raise Damaged(
                f"{rows.where}: the problem {self.name} gave no finite number for each seed and row"
            )
        return parts_SN
