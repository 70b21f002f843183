"""Scores predictions against hidden labels. What leaves: intervals, accuracies, shaped feedback.

Legend: S seeds, N rows of a split in the vault's order. `correct_N` is the share of a submission's
seeds that are right on each row.

Covered: joins by row id only; refusals that depend on ids, shapes and finiteness, never on a label;
no label in a repr, pickle or exception.
Not covered: what a caller does with the exact figures (only operator routes send them).

The best of an AAR moves in clear steps only: a parameter-free ladder (Blum and Hardt, arXiv
1502.04585).

Covered: flipping rows one at a time, random vectors with regression, small batches (docs have the
simulation); the size of the step, which an AAR may see, is computed without a label.
Not covered: many seeds with the best kept, AARs that pool their ladders, a vector parked just below
the step. The certified number therefore comes from private splits.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import BadInput, GapNotPositive
from aarlab.core.pgr import (
    NO_PGR,
    Gap,
    Outcomes,
    accuracy,
    accuracy_difference,
    gap,
    pgr,
    pgr_difference,
    pgr_point,
    shrunk_best,
)
from aarlab.core.scoring import Scoring
from aarlab.core.types import Split
from aarlab.core.wire import BaselineAccuracy, Feedback, Interval, LabelFreeScore, Predictions, Run
from aarlab.vault.vault import Bools, Sealed, Vault, answers

Z = 2.0
GRID = 0.01

Floats = NDArray[np.float64]


class Rung(NamedTuple):
    """`improved`: the submission becomes the best. `step_bound`: accuracy, at least the step."""

    improved: bool
    step_bound: float


def climb(correct_N: Floats, best_N: Floats | None) -> Rung:
    """Beat the best by more than max(Z s / sqrt(n), GRID), s the sd of the per-row difference.

    The sd would tell the size of the difference in accuracy, so the step shown uses the root
    mean square. A row's |difference| is that of the predictions, whatever its label: the
    bound holds no label, and beating it always beats the step.
    """
    if best_N is None:
        return Rung(improved=True, step_bound=GRID)
    difference_N = correct_N - best_N
    step = max(Z * float(difference_N.std()) / math.sqrt(len(difference_N)), GRID)
    # 1e-9: a gain of exactly one grid step must not pass or fail by a rounding error.
    if float(difference_N.mean()) > step + 1e-9:
        return Rung(improved=True, step_bound=GRID)
    rms = math.sqrt(float((difference_N**2).mean()))
    return Rung(improved=False, step_bound=max(Z * rms / math.sqrt(len(difference_N)), GRID))


def on_grid(accuracy: float) -> float:
    """Return the accuracy rounded to the grid, from which an AAR's feedback is made."""
    return round(accuracy / GRID) * GRID


SHOWN_DIGITS = 2


class Scorer(Sealed, Scoring):
    """Scores against the vault; no route gets a label or a right-or-wrong per row from it."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def tasks(self) -> list[str]:
        return self._vault.tasks()

    def check(self, task: str, split: Split = "search") -> None:
        """Raise unless the split can be scored: files fit, and the gap is clearly positive."""
        found = self.gap(task, split)
        if not found.clear:
            raise GapNotPositive(f"{task}, {split} split: {found.said()}. {NO_PGR}")

    def correct(self, task: str, split: Split, ids: Sequence[str], probs_SN: Floats) -> Bools:
        """Return right or wrong (S, N) in the vault's row order.

        Raises BadInput on anything malformed.
        """
        truth = self._vault.truth(task, split)
        if probs_SN.ndim != 2 or probs_SN.shape[1] != len(ids) or len(probs_SN) == 0:
            raise BadInput(
                f"{task}/{split}: expected probabilities of shape (S, {len(truth.ids_N)}), one "
                f"column for each id, got {probs_SN.shape} for {len(ids)} ids"
            )
        in_order = tuple(ids) == truth.ids_N
        if not in_order:
            _check_ids(f"{task}/{split}", ids, truth.row_of)
        if not (np.isfinite(probs_SN).all() and (probs_SN >= 0).all() and (probs_SN <= 1).all()):
            raise BadInput(f"{task}/{split}: every probability must be a number from 0 to 1")
        if not in_order:
            order_N = np.empty(len(ids), dtype=np.intp)
            order_N[[truth.row_of[row_id] for row_id in ids]] = np.arange(len(ids))
            probs_SN = probs_SN[:, order_N]
        correct_SN: Bools = answers(probs_SN) == truth.targets_N
        return correct_SN

    def estimate(self, task: str, split: Split, predictions: Predictions) -> Interval:
        """Return the exact PGR with its interval, for the operator.

        Raises as `correct` and core.pgr do.
        """
        return self._interval(task, split, self._correct(task, split, predictions))

    def accuracy(self, task: str, split: Split, predictions: Predictions) -> float:
        """Return the exact accuracy, mean over runs and rows, for the operator."""
        return float(self._correct(task, split, predictions).mean())

    def accuracy_interval(self, task: str, split: Split, predictions: Predictions) -> Interval:
        """Return the exact accuracy with its interval, for the operator; needs no PGR."""
        correct_SN, base = (
            self._correct(task, split, predictions),
            self._vault.baselines(task, split),
        )
        groups_N = self._vault.truth(task, split).groups_N
        return accuracy(correct_SN, groups_N, spread=base.spread)

    def best(self, task: str, split: Split, methods: Sequence[Predictions]) -> Interval:
        """Return the PGR of the first of these methods, less what choosing it flatters it by.

        For the operator. The first is the one chosen as the best. In the order of their seeds, run
        i of each method must have met the same weak teacher.
        """
        in_order = (
            Predictions(one.ids, sorted(one.runs, key=lambda run: run.seed)) for one in methods
        )
        correct = [self._correct(task, split, one) for one in in_order]
        return shrunk_best(correct, self._outcomes(task, split, correct[0]))

    def gap(self, task: str, split: Split) -> Gap:
        """Return the accuracies of teacher and ceiling and whether PGR exists, for the operator."""
        base = self._vault.baselines(task, split)
        return gap(base.weak_SN, base.ceiling_SN, self._vault.truth(task, split).groups_N)

    def difference(self, task: str, split: Split, new: Predictions, other: Predictions) -> Interval:
        """Return `new` less `other`, whose runs share seeds and teachers, for the operator.

        The difference is in PGR, or in accuracy if the gap is not clear. Raises BadInput unless the
        seeds are the same.
        """
        if [run.seed for run in new.runs] != [run.seed for run in other.runs]:
            raise BadInput(f"{task}/{split}: runs of other seeds cannot be paired")
        base, groups_N = self._vault.baselines(task, split), self._vault.truth(task, split).groups_N
        new_SN, other_SN = (self._correct(task, split, one) for one in (new, other))
        if not self.gap(task, split).clear:
            return accuracy_difference(new_SN, other_SN, groups_N, same_seeds=True)
        return pgr_difference(Outcomes(new_SN, base.weak_SN, base.ceiling_SN, groups_N), other_SN)

    def baselines(self, task: str, split: Split) -> BaselineAccuracy:
        known = self._vault.baselines(task, split)
        return BaselineAccuracy(
            task=task,
            split=split,
            weak=float(known.weak_SN.mean()),
            ceiling=float(known.ceiling_SN.mean()),
            weak_seeds=len(known.weak_SN),
            ceiling_seeds=len(known.ceiling_SN),
            n_rows=known.weak_SN.shape[1],
            label_free=self._label_free(task, split),
        )

    def _label_free(self, task: str, split: Split) -> LabelFreeScore | None:
        known, judged = self._vault.baselines(task, split), None
        if known.label_free is None:
            return None
        rows_M, correct_M = known.label_free.rows_M, known.label_free.correct_M
        groups_N = self._vault.truth(task, split).groups_N
        groups_M = tuple(groups_N[row] for row in rows_M)
        arms = (known.weak_SN[:, rows_M], known.ceiling_SN[:, rows_M])
        if gap(*arms, groups_M).clear:
            judged = pgr(Outcomes(correct_M[None, :], *arms, groups_M))
        return LabelFreeScore(n_rows=len(rows_M), accuracy=float(correct_M.mean()), pgr=judged)

    def feedback(
        self, task: str, new: Predictions, best: Predictions | None, exact: bool = False
    ) -> Feedback:
        """Return feedback on search predictions, given those of the AAR's best on this task.

        Shaped: the figures are those of the best so far, which `new` replaces only by a clear step.
        Exact: the figures of `new` itself (the published setting).
        """
        new_SN = self._correct(task, "search", new)
        best_SN = None if best is None else self._correct(task, "search", best)
        rung = climb(new_SN.mean(axis=0), None if best_SN is None else best_SN.mean(axis=0))
        base = self.baselines(task, "search")
        if exact:
            interval = self._interval(task, "search", new_SN)
            gained = best_SN is None or float(new_SN.mean()) > float(best_SN.mean())
            return Feedback(
                pgr=interval.value,
                stderr=interval.stderr,
                n=interval.n_rows,
                step=0.0,
                improved=gained,
            )
        shown_SN = new_SN if rung.improved or best_SN is None else best_SN
        interval = self._interval(task, "search", shown_SN)
        shown = pgr_point(on_grid(float(shown_SN.mean())), base.weak, base.ceiling)
        step = rung.step_bound / (base.ceiling - base.weak)
        return Feedback(
            pgr=round(shown, SHOWN_DIGITS),
            stderr=round(interval.stderr, SHOWN_DIGITS),
            n=interval.n_rows,
            step=round(step, SHOWN_DIGITS),
            improved=rung.improved,
        )

    def _correct(self, task: str, split: Split, predictions: Predictions) -> Bools:
        return self.correct(task, split, predictions.ids, stack(predictions.runs))

    def _interval(self, task: str, split: Split, correct_SN: Bools) -> Interval:
        return pgr(self._outcomes(task, split, correct_SN))

    def _outcomes(self, task: str, split: Split, correct_SN: Bools) -> Outcomes:
        base, truth = self._vault.baselines(task, split), self._vault.truth(task, split)
        return Outcomes(correct_SN, base.weak_SN, base.ceiling_SN, truth.groups_N, base.spread)


def stack(runs: Sequence[Run]) -> Floats:
    """Return probabilities (S, N).

    Raises BadInput unless runs are equally long, of distinct seeds.
    """
    lengths = sorted({len(run.probs) for run in runs})
    if len(lengths) != 1:
        raise BadInput(f"expected runs of one length, got lengths {lengths[:5]}")
    if len({run.seed for run in runs}) != len(runs):
        raise BadInput("expected each seed once among the runs of a submission")
    return np.array([run.probs for run in runs], dtype=np.float64)


def _check_ids(where: str, ids: Sequence[str], row_of: dict[str, int]) -> None:
    counts = Counter(ids)
    doubled = [row_id for row_id, count in counts.items() if count > 1]
    unknown = [row_id for row_id in counts if row_id not in row_of]
    missing = [row_id for row_id in row_of if row_id not in counts]
    named = (("double", doubled), ("unknown", unknown), ("missing", missing))
    faults = [f"{len(bad)} {what} (e.g. {bad[0][:60]!r})" for what, bad in named if bad]
    if faults:
        raise BadInput(f"{where}: expected its {len(row_of)} ids, each once: {', '.join(faults)}")
