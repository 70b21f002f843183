"""Scores predictions against hidden labels. What leaves: intervals, accuracies, shaped feedback.

Legend: S seeds, N rows of a split in the vault's order.

Predictions are joined with the labels here; the task's research problem makes the figure of them.

Covered: joins by row id only; refusals that depend on ids, shapes and finiteness, never on a label;
no label in a repr, pickle or exception.
Not covered: what a caller does with the exact figures (only operator routes send them).
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from aarlab.core.errors import BadInput
from aarlab.core.pgr import Gap, Outcomes, accuracy, gap, pgr
from aarlab.core.scoring import Scoring
from aarlab.core.types import Split
from aarlab.core.wire import BaselineAccuracy, Feedback, Interval, LabelFreeScore, Predictions, Run
from aarlab.problems.base import Bools, Floats, HiddenRows, Problem, Sealed
from aarlab.problems.known import PROBLEMS
from aarlab.problems.weak_to_strong.scoring import answers, gap_of
from aarlab.vault.vault import Vault


class Scorer(Sealed, Scoring):
    """Scores against the vault; no route gets a label or a right-or-wrong per row from it."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def tasks(self) -> list[str]:
        return self._vault.tasks()

    def check(self, task: str, split: Split = "search") -> None:
        """Raise unless the split can be scored: files fit, and what its problem asks for."""
        self._problem(task).check(self._rows(task, split))

    def correct(self, task: str, split: Split, ids: Sequence[str], probs_SN: Floats) -> Bools:
        """Return right or wrong (S, N) in the vault's row order.

        Raises BadInput on anything malformed.
        """
        probs_SN = self._in_order(task, split, ids, probs_SN)
        correct_SN: Bools = answers(probs_SN) == self._vault.truth(task, split).targets_N
        return correct_SN

    def estimate(self, task: str, split: Split, predictions: Predictions) -> Interval:
        """Return the exact figure of the task's problem with its interval, for the operator.

        Raises as `correct` and the problem do.
        """
        probs_SN = self._joined(task, split, predictions)
        return self._problem(task).estimate(self._rows(task, split), probs_SN)

    def accuracy(self, task: str, split: Split, predictions: Predictions) -> float:
        """Return the exact accuracy, mean over runs and rows, for the operator."""
        return float(self._correct(task, split, predictions).mean())

    def accuracy_interval(self, task: str, split: Split, predictions: Predictions) -> Interval:
        """Return the exact accuracy with its interval, for the operator; needs no PGR."""
        correct_SN = self._correct(task, split, predictions)
        known = self._vault.problem(task).weak_labels
        spread = self._vault.baselines(task, split).spread if known else None
        return accuracy(correct_SN, self._vault.truth(task, split).groups_N, spread=spread)

    def best(self, task: str, split: Split, methods: Sequence[Predictions]) -> Interval:
        """Return the figure of the first of these methods, less what choosing it flatters it by.

        For the operator. The first is the one chosen as the best. In the order of their seeds, run
        i of each method must have met the same weak teacher.
        """
        in_order = (
            Predictions(one.ids, sorted(one.runs, key=lambda run: run.seed)) for one in methods
        )
        joined = [self._joined(task, split, one) for one in in_order]
        return self._problem(task).best(self._rows(task, split), joined)

    def gap(self, task: str, split: Split) -> Gap:
        """Return the accuracies of teacher and ceiling and whether PGR exists, for the operator.

        Raises BaselineMissing for a task whose problem has neither.
        """
        return gap_of(self._rows(task, split))

    def difference(self, task: str, split: Split, new: Predictions, other: Predictions) -> Interval:
        """Return `new` less `other`, whose runs share seeds and teachers, for the operator.

        The difference is in the figure of the task's problem, or in accuracy if that is PGR and
        the gap is not clear. Raises BadInput unless the seeds are the same.
        """
        if [run.seed for run in new.runs] != [run.seed for run in other.runs]:
            raise BadInput(f"{task}/{split}: runs of other seeds cannot be paired")
        new_SN, other_SN = (self._joined(task, split, one) for one in (new, other))
        return self._problem(task).difference(self._rows(task, split), new_SN, other_SN)

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
        new_SN = self._joined(task, "search", new)
        best_SN = None if best is None else self._joined(task, "search", best)
        return self._problem(task).feedback(self._rows(task, "search"), new_SN, best_SN, exact)

    def _problem(self, task: str) -> Problem:
        return PROBLEMS.get(self._vault.problem(task).name)

    def _rows(self, task: str, split: Split) -> HiddenRows:
        truth = self._vault.truth(task, split)
        return HiddenRows(
            task,
            split,
            truth.targets_N,
            truth.groups_N,
            baselines=lambda: self._vault.baselines(task, split),
        )

    def _joined(self, task: str, split: Split, predictions: Predictions) -> Floats:
        return self._in_order(task, split, predictions.ids, stack(predictions.runs))

    def _correct(self, task: str, split: Split, predictions: Predictions) -> Bools:
        return self.correct(task, split, predictions.ids, stack(predictions.runs))

    def _in_order(self, task: str, split: Split, ids: Sequence[str], probs_SN: Floats) -> Floats:
        """Return probabilities (S, N) in the vault's row order; BadInput on anything malformed."""
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
        if in_order:
            return probs_SN
        order_N = np.empty(len(ids), dtype=np.intp)
        order_N[[truth.row_of[row_id] for row_id in ids]] = np.arange(len(ids))
        return probs_SN[:, order_N]


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
