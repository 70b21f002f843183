"""Internal coherence maximisation (method 27), arXiv 2506.10139, on a probe instead of prompts.

U(D) = alpha mean log P(y_i | D without i) - number of inconsistencies, maximised by annealing over
which rows are labelled and how. The source asks a language model with the other rows in its
context, or fine-tunes it by folds; here P is a ridge classifier on the strong model's frozen
states, whose leave-one-out predictions have a closed form. Legend: N rows, K components.
"""

from dataclasses import dataclass, field

import numpy as np

from aarlab.testbed.folds import Ints
from aarlab.testbed.methods.probes import row_vectors
from aarlab.testbed.recipe import Recipe, TrainStage
from aarlab.testbed.run_recipe import RecipePredictor
from aarlab.testbed.stages.fitting import train_student
from aarlab.testbed.stages.run import Floats64, RecipeRun
from aarlab.testbed.student import StudentFactory
from aarlab.testbed.task import TrainTask

ALPHA, START_ROWS, COMPONENTS, RIDGE = 50.0, 8, 32, 1.0
HOTTEST, COLDEST, COOLING = 10.0, 0.01, 2.0
STEPS_PER_ROW = 3
Rows = dict[int, list[int]]


def icm(task: TrainTask, student: StudentFactory, seed: int) -> RecipePredictor:
    """Label the rows so that they predict each other best, then train on those labels (27).

    alpha 50, 8 random labels to begin with, temperature max(.01, 10 / (1 + 2 ln(1 + n))), three
    proposals a row. Inconsistent are two rows of a problem with the same final answer and
    different labels, or with different final answers and both right. The labels
    have no sign of their own: the weak labels choose it. Known: fails where the concept is not
    salient in the states.
    """
    labels_N = coherent_labels(task, student, seed)
    if float(((labels_N > 0.5) == (task.weak_labels_N > 0.5)).mean()) < 0.5:
        labels_N = 1 - labels_N
    run = RecipeRun(Recipe(train=TrainStage(targets="hard")), task, student, seed)
    rows = np.arange(len(labels_N))
    return RecipePredictor(run, (train_student(run, rows, labels_N, run.inner_seed(0, 0)),))


def coherent_labels(task: TrainTask, student: StudentFactory, seed: int) -> Floats64:
    """Labels 0 or 1 of every row, (N,)."""
    rng = np.random.default_rng(seed)
    search = Search(components(student, task), *neighbours_of(task), rng)
    for row in search.rng.choice(len(task.inputs), START_ROWS, replace=False):
        search.labels_N[row] = float(search.rng.choice((-1, 1)))
    search.current = search.utility(search.labels_N)
    for number in range(STEPS_PER_ROW * len(task.inputs)):
        search.step(max(COLDEST, HOTTEST / (1 + COOLING * np.log1p(number))))
    return (search.filled() > 0).astype(np.float64)


def components(student: StudentFactory, task: TrainTask) -> Floats64:
    """The states' first principal components, white, (N, K); no bias for preference rows."""
    vectors_ND = row_vectors(student.states(task.inputs))
    if task.kind == "verification":
        vectors_ND = vectors_ND - vectors_ND.mean(axis=0)
    vectors_ND = vectors_ND / np.maximum(vectors_ND.std(axis=0), 1e-6)
    left_NR, _, _ = np.linalg.svd(vectors_ND, full_matrices=False)
    return np.asarray(left_NR[:, :COMPONENTS] * np.sqrt(len(vectors_ND)))


def neighbours_of(task: TrainTask) -> tuple[Rows, Rows]:
    """For each verification row, the other rows of its problem with the same final answer, and
    those with another one."""
    if task.kind == "preference":
        return {}, {}
    twins, rivals = Rows(), Rows()
    by_group: dict[str, list[int]] = {}
    for row, group in enumerate(task.groups):
        by_group.setdefault(group, []).append(row)
    answers = task.same_answers()
    for rows in by_group.values():
        for row in rows:
            twins[row] = [o for o in rows if o != row and answers[o] == answers[row]]
            rivals[row] = [o for o in rows if answers[o] != answers[row]]
    return twins, rivals


@dataclass(slots=True)
class Search:
    """The annealing: `labels_N` is -1, 1 or 0 (not labelled yet)."""

    inputs_NK: Floats64
    twins: Rows
    rivals: Rows
    rng: np.random.Generator
    labels_N: Floats64 = field(init=False)
    current: float = field(init=False, default=-np.inf)

    def __post_init__(self) -> None:
        self.labels_N = np.zeros(len(self.inputs_NK))

    def step(self, temperature: float) -> None:
        """Propose the likeliest label for a row, repair what contradicts it, accept by utility."""
        row = int(self.rng.integers(len(self.labels_N)))
        guess = 1.0 if self.inputs_NK[row] @ self._weights(self.labels_N, row) > 0 else -1.0
        proposed_N = self.labels_N.copy()
        proposed_N[row] = guess
        for twin in self.twins.get(row, []):
            if proposed_N[twin] != 0:
                proposed_N[twin] = guess
        for rival in self.rivals.get(row, []):
            if guess > 0 and proposed_N[rival] > 0:
                proposed_N[rival] = -1
        if (proposed_N == self.labels_N).all():
            return
        utility = self.utility(proposed_N)
        chance = np.exp(min((utility - self.current) / temperature, 0.0))
        if self.rng.random() < chance:
            self.labels_N, self.current = proposed_N, utility

    def utility(self, labels_N: Floats64) -> float:
        """alpha times the mean leave-one-out log-likelihood, less inconsistent pairs."""
        rows = np.flatnonzero(labels_N)
        margin_R = labels_N[rows] * self._left_out(labels_N, rows)
        mean_logp = float(-np.logaddexp(0, -2 * margin_R).mean())
        return ALPHA * mean_logp - self.inconsistencies(labels_N)

    def inconsistencies(self, labels_N: Floats64) -> int:
        """Pairs of labelled twins whose labels differ, and of rivals that are both right."""
        twins = ((row, twin) for row, rows in self.twins.items() for twin in rows)
        rivals = ((row, rival) for row, rows in self.rivals.items() for rival in rows)
        differ = sum(bool(labels_N[a] * labels_N[b] < 0) for a, b in twins)
        return (differ + sum(bool(min(labels_N[a], labels_N[b]) > 0) for a, b in rivals)) // 2

    def filled(self) -> Floats64:
        """The labels, and the classifier's sign where there is none."""
        guess_N = self.inputs_NK @ self._weights(self.labels_N, None)
        return np.where(self.labels_N != 0, self.labels_N, np.sign(guess_N))

    def _inverse(self, chosen_RK: Floats64) -> Floats64:
        size = chosen_RK.shape[1]
        return np.asarray(np.linalg.inv(chosen_RK.T @ chosen_RK + RIDGE * size * np.eye(size)))

    def _weights(self, labels_N: Floats64, without: int | None) -> Floats64:
        rows = np.flatnonzero(labels_N)
        rows = rows[rows != without] if without is not None else rows
        chosen_RK = self.inputs_NK[rows]
        return np.asarray(self._inverse(chosen_RK) @ (chosen_RK.T @ labels_N[rows]))

    def _left_out(self, labels_N: Floats64, rows: Ints) -> Floats64:
        """Ridge predictions of each labelled row by the others: (f - h y) / (1 - h)."""
        chosen_RK, labels_R = self.inputs_NK[rows], labels_N[rows]
        hat_RK = chosen_RK @ self._inverse(chosen_RK)
        own_R = np.einsum("rk,rk->r", hat_RK, chosen_RK)
        fitted_R = hat_RK @ (chosen_RK.T @ labels_R)
        return np.asarray((fitted_R - own_R * labels_R) / np.maximum(1 - own_R, 1e-6))
