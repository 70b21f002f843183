"""Run the stages of a recipe: label, select and train.

The instance-dependent channel of em_posterior relates a truth y to a hard weak label h:

    TPR(x) = P(h=1 | y=1, x) = sigmoid(f(x).a)        FPR(x) = P(h=1 | y=0, x) = sigmoid(f(x).b)
    P(y=1 | h, x)  is proportional to  P(h | y=1, x) pi(x)

with a prior pi(x) that does not come from the weak teacher. a and b maximise the marginal
likelihood of the weak labels, sum_x log sum_y P(h | y, x) P(y | x), under a Gaussian penalty that
holds them near a channel with TPR .7 and FPR .3.

Legend: N rows, A answers per row, D width of a state, K margins or neighbours, F features (the
first is constant), R chosen rows of the train split (`rows` are their indices).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import MethodFailed
from aarlab.core.hashing import sha256_hex
from aarlab.core.types import Example
from aarlab.testbed.recipes.recipe import Recipe
from aarlab.testbed.recipes.zero_shot import ZeroShot
from aarlab.testbed.running.contract import Predictor
from aarlab.testbed.students.features import AnswerLogp
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.students.teacher import Ints, cross_fit, fold_of_rows
from aarlab.testbed.students.train import expit, fit_head
from aarlab.testbed.tasks.train_task import TrainTask

Floats64 = NDArray[np.float64]
CLIP = 1e-3


class Neighbours(NamedTuple):
    """The K nearest of each row, itself left out: `bank_NK` numbers, `cosine_NK`.

    Number N + i stands for the mirror image of preference row i (answers swapped, other label).
    """

    bank_NK: Ints
    cosine_NK: Floats64


Memo = dict[tuple[str, int], Neighbours]
"""Neighbours by the digest of the states and K. They depend on no label and no seed, so the runs of
a recipe with several seeds share one."""


@dataclass(frozen=True)
class RecipeRun:
    """A recipe on a task with one seed.

    Zero-shot scores are computed only when a stage needs them.
    """

    recipe: Recipe
    task: TrainTask
    factory: StudentFactory
    seed: int
    memo: Memo = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def logp(self) -> AnswerLogp:
        """Return zero-shot scores of the train rows."""
        return self.factory.zero_shot(self.task.inputs)

    @cached_property
    def states(self) -> NDArray[np.float32]:
        """Return frozen states of the train rows on the student's layer, shape (N, A, D)."""
        return self.factory.states(self.task.inputs)

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """Return the layers that a student is trained on, ascending.

        Raises MethodFailed for more than one where students train blocks.
        """
        own, wanted = self.factory.layer, self.recipe.train.layers
        if wanted == "one":
            return (own,)
        if self.factory.adapter is not None:
            raise MethodFailed(
                f"train.layers {wanted}: students of this task train blocks of the model up to "
                f"layer {own}; use layers one"
            )
        stored = sorted({own, *self.factory.layers(self.task.inputs)})
        at = stored.index(own)
        return tuple(stored if wanted == "all" else stored[max(at - 1, 0) : at + 2])

    @cached_property
    def zero_shot(self) -> ZeroShot:
        return ZeroShot(self.logp, float(self.task.weak_labels_N.mean()))

    def margins(self, kind: str) -> Floats64:
        """Return zero-shot margins of the train rows, shape (N,)."""
        return self.zero_shot.margins(self.logp, kind)

    def inner_seed(self, *place: int) -> int:
        """Return a separate seed for each place (stage, round, fold, member) of this run."""
        return int(np.random.SeedSequence([self.seed, *place]).generate_state(1)[0])

    def rows(self, rows: Ints) -> list[Example]:
        return [self.task.inputs[i] for i in rows]

    def groups(self, rows: Ints) -> Sequence[str]:
        return [self.task.groups[i] for i in rows]


def log_odds(probs_N: Floats64) -> Floats64:
    """Return log-odds of probabilities kept inside [CLIP, 1 - CLIP]."""
    clipped = np.clip(probs_N, CLIP, 1 - CLIP)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


FIRST_EPOCHS = 2  # method 15: two epochs on the more confident half
WEIGHT_FLOOR = 1e-3  # rows with label 1/2 keep a trace of weight, so that no training set is empty


@dataclass(frozen=True, slots=True)
class MeanOf:
    """Predict the mean probability of several predictors."""

    members: tuple[Predictor, ...]

    def predict_proba(self, inputs: Sequence[Example]) -> NDArray[np.float64]:
        """Return P(label 1), shape (N,)."""
        return np.asarray(np.mean([m.predict_proba(inputs) for m in self.members], axis=0))


def train_student(
    run: RecipeRun, rows: Ints, labels_R: Floats64, seed: int, weights_R: Floats64 | None = None
) -> Predictor:
    """Train a fresh student on `rows` with their soft labels, as stage train says.

    With several layers it is the mean of a student on each. `weights_R` replace the stage's own
    weighting of rows.
    """
    factories = [run.factory.at(layer) for layer in run.layers]
    students = [_trained(run, made, rows, labels_R, weights_R, seed) for made in factories]
    return students[0] if len(students) == 1 else MeanOf(tuple(students))


def _trained(
    run: RecipeRun,
    factory: StudentFactory,
    rows: Ints,
    labels_R: Floats64,
    weights_R: Floats64 | None,
    seed: int,
) -> Predictor:
    stage, inputs = run.recipe.train, run.rows(rows)
    hard = stage.targets == "hard"
    targets_R = (labels_R > 0.5).astype(np.float64) if hard else labels_R
    confidence_R = np.abs(2 * labels_R - 1)
    if weights_R is None and stage.weighting == "confidence":
        weights_R = np.maximum(confidence_R, WEIGHT_FLOOR)
    options = stage.head(factory.options, seed)
    if stage.order == "mixed":
        return factory.new(options).fit(inputs, targets_R, weights_R)
    sure = np.argsort(-confidence_R, kind="stable")[: max(2, len(rows) // 2)]
    student = factory.new(options.model_copy(update={"epochs": FIRST_EPOCHS}))
    sure_weights_R = None if weights_R is None else weights_R[sure]
    student.fit(run.rows(rows[sure]), targets_R[sure], sure_weights_R)
    slower = options.model_copy(update={"lr": options.lr / 2})
    return student.go_on(inputs, targets_R, weights_R, slower)


def out_of_fold(run: RecipeRun, rows: Ints, labels_R: Floats64, folds: int, place: int) -> Floats64:
    """Predict P(label 1) for `rows`, each by a student that was not trained on its problem."""

    def fit_predict(train: Ints, held_out: Ints) -> Floats64:
        seed = run.inner_seed(place, int(held_out[0]))
        student = train_student(run, rows[train], labels_R[train], seed)
        return np.asarray(student.predict_proba(run.rows(rows[held_out])))

    return cross_fit(fold_of_rows(run.groups(rows), folds, run.inner_seed(place)), fit_predict)


START = float(np.log(0.7 / 0.3))
PENALTY = 1.0
PROBABILITY_FLOOR = 1e-4


class Channel(NamedTuple):
    """Weights of the true and the false positive rate."""

    true_F: Floats64
    false_F: Floats64

    def rates(self, features_NF: Floats64) -> tuple[Floats64, Floats64]:
        """Return TPR(x) and FPR(x), each of shape (N,)."""
        return expit(features_NF @ self.true_F), expit(features_NF @ self.false_F)

    def posterior(
        self, hard_N: NDArray[np.bool_], features_NF: Floats64, prior_N: Floats64
    ) -> Floats64:
        """Return P(y=1 | hard weak label, x), shape (N,)."""
        return _posterior(hard_N, self.rates(features_NF), prior_N)[0]


def _posterior(
    hard_N: NDArray[np.bool_], rates: tuple[Floats64, Floats64], prior_N: Floats64
) -> tuple[Floats64, Floats64]:
    """Return P(y=1 | hard weak label, x) and the marginal P(hard weak label | x), each (N,)."""
    tpr_N, fpr_N = rates
    if_true_N = np.where(hard_N, tpr_N, 1 - tpr_N) * prior_N
    if_false_N = np.where(hard_N, fpr_N, 1 - fpr_N) * (1 - prior_N)
    marginal_N = np.maximum(if_true_N + if_false_N, 1e-300)
    return np.asarray(if_true_N / marginal_N), marginal_N


def fit_channel(hard_N: NDArray[np.bool_], features_NF: Floats64, prior_N: Floats64) -> Channel:
    """Maximise the penalised marginal likelihood by L-BFGS with its exact gradient."""
    n_features = features_NF.shape[1]
    start = np.zeros(2 * n_features)
    start[0], start[n_features] = START, -START
    prior_N = np.clip(prior_N, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)

    def negative(weights: Floats64) -> tuple[float, Floats64]:
        rates = Channel(weights[:n_features], weights[n_features:]).rates(features_NF)
        tpr_N, fpr_N = rates
        held_N, marginal_N = _posterior(hard_N, rates, prior_N)
        true_F = features_NF.T @ (held_N * (hard_N - tpr_N))
        false_F = features_NF.T @ ((1 - held_N) * (hard_N - fpr_N))
        away = weights - start
        value = -np.log(marginal_N).sum() + PENALTY * float(away @ away)
        return float(value), 2 * PENALTY * away - np.concatenate([true_F, false_F])

    from scipy.optimize import minimize  # slow to load

    found = minimize(negative, start, jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return Channel(found.x[:n_features], found.x[n_features:])


def channel_features(weak_N: Floats64, margins_NK: Floats64) -> Floats64:
    """Return the standardised features of the channel, (N, 5).

    They are a constant, weak confidence, size and SD of the margins, and sign agreement.
    """
    mean_N = margins_NK.mean(axis=1)
    agreement_N = (np.sign(margins_NK) == np.sign(mean_N)[:, None]).mean(axis=1)
    raw_NF = np.stack(
        [np.abs(2 * weak_N - 1), np.abs(mean_N), margins_NK.std(axis=1), agreement_N], axis=1
    )
    spread_F = raw_NF.std(axis=0)
    scaled_NF = (raw_NF - raw_NF.mean(axis=0)) / np.where(spread_F > 1e-9, spread_F, 1.0)
    return np.concatenate([np.ones((len(weak_N), 1)), scaled_NF], axis=1)


EM_ROUNDS = 2
EM_FOLDS = 2
EM_PLACE = 100  # inner seeds of the EM rounds; self-training rounds count from 1


def label_rows(run: RecipeRun) -> Floats64:
    """Label rows by the stage's source, with log-odds divided by its temperature."""
    stage = run.recipe.label
    weak_N = run.task.weak_labels_N
    if stage.source == "weak":
        labels_N = weak_N
    elif stage.source == "teachers":
        labels_N = run.task.teacher_labels_SN.mean(axis=0)
    elif stage.source == "votes":
        labels_N = (run.task.teacher_labels_SN > 0.5).mean(axis=0)
    elif stage.source == "zero_shot":
        labels_N = expit(stage.weight * run.margins(stage.zero_shot))
    elif stage.source == "posterior":
        labels_N = expit(log_odds(weak_N) + stage.weight * run.margins(stage.zero_shot))
    elif stage.source == "blend":
        own_N = expit(run.margins(stage.zero_shot))
        labels_N = (1 - stage.share) * weak_N + stage.share * own_N
    else:
        labels_N = em_posterior(run)
    if stage.temperature == 1.0:
        return np.asarray(labels_N)
    return np.asarray(expit(log_odds(labels_N) / stage.temperature))


def em_posterior(run: RecipeRun, margins_NK: Floats64 | None = None) -> Floats64:
    """Return the posterior of the truth under the channel, two rounds (method 28, adapted).

    The source asks the strong model with 3 templates in 2 orders; without such `margins_NK` they
    are the three zero-shot scores. The prior's log-odds are `weight` times their mean. In later
    rounds they are averaged with those of students trained on the posterior, out of fold, so that
    no row's own weak label enters its prior.
    """
    weak_N = run.task.weak_labels_N
    hard_N = weak_N > 0.5
    if margins_NK is None:
        margins_NK = run.zero_shot.all_margins(run.logp)
    features_NF = channel_features(weak_N, margins_NK)
    own_N = run.recipe.label.weight * margins_NK.mean(axis=1)
    posterior_N, all_rows = _posterior_labels(hard_N, features_NF, own_N), np.arange(len(weak_N))
    for number in range(EM_ROUNDS):
        student_N = out_of_fold(run, all_rows, posterior_N, EM_FOLDS, EM_PLACE + number)
        posterior_N = _posterior_labels(hard_N, features_NF, (own_N + log_odds(student_N)) / 2)
    return posterior_N


def _posterior_labels(
    hard_N: NDArray[np.bool_], features_NF: Floats64, log_odds_N: Floats64
) -> Floats64:
    prior_N = np.asarray(expit(log_odds_N))
    return fit_channel(hard_N, features_NF, prior_N).posterior(hard_N, features_NF, prior_N)


CHUNK = 1024  # rows per block of the distance matrix


def nearest_of(run: RecipeRun, k: int) -> Neighbours:
    """Return the neighbours of the run's train rows, from the run's memo if it has them."""
    key = sha256_hex(run.states.tobytes()), k
    if key not in run.memo:
        run.memo.clear()
        run.memo[key] = nearest(run.states, k)
    return run.memo[key]


def nearest(states_NAD: NDArray[np.float32], k: int) -> Neighbours:
    """Find cosine neighbours among the rows and, of preference rows, their mirror images.

    A mirror image has minus the cosine of its row, so that the k nearest of both are the rows with
    the largest |cosine|.
    """
    points_ND = row_points(states_NAD)
    n, paired = len(points_ND), states_NAD.shape[1] == 2
    k = min(k, n - 2)
    found = Neighbours(np.empty((n, k), np.int64), np.empty((n, k)))
    for begin in range(0, n, CHUNK):
        block = np.arange(begin, min(begin + CHUNK, n))
        cosine_BN = points_ND[block] @ points_ND.T
        closeness_BN = np.abs(cosine_BN) if paired else cosine_BN
        closeness_BN[np.arange(len(block)), block] = -np.inf
        row_BK = np.argpartition(closeness_BN, n - k, axis=1)[:, n - k :]
        found.cosine_NK[block] = np.take_along_axis(closeness_BN, row_BK, axis=1)
        if paired:
            row_BK = row_BK + n * (np.take_along_axis(cosine_BN, row_BK, axis=1) < 0)
        found.bank_NK[block] = row_BK
    return found


def row_points(states_NAD: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return one standardised vector of length 1 for each row, (N, D).

    A preference row is represented by the difference of its answers. Without the division a few
    huge features would decide which rows are near.
    """
    spread_D = np.maximum(states_NAD.std(axis=(0, 1)), 1e-6)
    centred_NAD = (states_NAD - states_NAD.mean(axis=(0, 1))) / spread_D
    paired = states_NAD.shape[1] == 2
    points_ND = centred_NAD[:, 0] - centred_NAD[:, 1] if paired else centred_NAD[:, 0]
    lengths_N1 = np.linalg.norm(points_ND, axis=1, keepdims=True)
    return np.asarray(points_ND / np.maximum(lengths_N1, 1e-9), np.float32)


MIN_ROWS = 8
SELECT_FOLDS, SELECT_PLACE = 2, 200  # of the students that select rows, and their inner seeds
LINEAR_FOLDS, LINEAR_EPOCHS = 5, 20


def select_rows(run: RecipeRun, labels_N: Floats64) -> Ints:
    """Return the indices of the kept rows; raises MethodFailed when they cannot train a student."""
    stage = run.recipe.select
    confidence_N = np.abs(labels_N - 0.5)
    if stage.kind == "all":
        rows = np.arange(len(labels_N))
    elif stage.kind == "confident":
        rows = top_rows(confidence_N, labels_N, stage.keep, stage.balanced)
    elif stage.kind == "threshold":
        rows = np.flatnonzero(confidence_N > stage.threshold - 0.5)
    elif stage.kind == "agreement":
        rows = np.flatnonzero((run.margins(stage.zero_shot) > 0) == (labels_N > 0.5))
    elif stage.kind == "out_of_fold":
        everyone = np.arange(len(labels_N))
        own_N = out_of_fold(run, everyone, labels_N, SELECT_FOLDS, SELECT_PLACE)
        rows = np.flatnonzero((own_N > 0.5) == (labels_N > 0.5))
    elif stage.kind == "overlap":
        score_N = overlap_density(run, labels_N, stage.k)
        rows = top_rows(score_N, labels_N, stage.keep, stage.balanced)
    else:
        score_N = neighbour_agreement(nearest_of(run, stage.k), labels_N > 0.5)
        rows = top_rows(score_N, labels_N, stage.keep, stage.balanced)
    return _enough(rows, labels_N, stage.kind)


def top_rows(score_N: Floats64, labels_N: Floats64, keep: float, balanced: bool) -> Ints:
    """Return the `keep` share with the highest score, of all rows or of each labelled class."""
    everyone = np.arange(len(labels_N))
    positive_N = labels_N > 0.5
    parts = [everyone[positive_N], everyone[~positive_N]] if balanced else [everyone]
    kept = [
        part[np.argsort(-score_N[part], kind="stable")[: max(1, round(keep * len(part)))]]
        for part in parts
        if len(part)
    ]
    return np.sort(np.concatenate(kept))


def neighbour_agreement(near: Neighbours, positive_N: NDArray[np.bool_]) -> Floats64:
    """Return the share of a row's nearest neighbours with the same label, (N,)."""
    label_M = np.concatenate([positive_N, ~positive_N])
    same_NK = label_M[near.bank_NK] == positive_N[:, None]
    return np.asarray(same_NK.mean(axis=1))


def overlap_density(run: RecipeRun, labels_N: Floats64, k: int) -> Floats64:
    """Return the sum of four z-scored signals, (N,), after Shin, Cooper, Sala (ICLR 2025).

    On frozen states: P(own label) by a linear model out of fold, the share of the `k` nearest
    neighbours with the same label, and their mean cosine (local density). On the label: mid-entropy
    -(H(w) - ln 2 / 2)^2 / (2 width^2), with width the spread of H.
    """
    near = nearest_of(run, k)
    signals = [
        linear_agreement(run, labels_N > 0.5),
        neighbour_agreement(near, labels_N > 0.5),
        near.cosine_NK.mean(axis=1),
        mid_entropy(labels_N),
    ]
    scaled = [(s - s.mean()) / max(float(s.std()), 1e-9) for s in signals]
    return np.asarray(np.sum(scaled, axis=0))


def linear_agreement(run: RecipeRun, positive_N: NDArray[np.bool_]) -> Floats64:
    """Return the out-of-fold P(own hard label) by logistic regression on the states, (N,).

    The folds are by problem.
    """
    changes = {"hidden": 0, "epochs": LINEAR_EPOCHS, "seed": run.seed}
    options = run.factory.options.model_copy(update=changes)
    states_NAD, targets_N = run.states, positive_N.astype(np.float64)

    def fit_predict(train: Ints, held_out: Ints) -> NDArray[np.floating]:
        with run.factory.counted(rows_trained=len(train) * options.epochs):
            head = fit_head(states_NAD[train], targets_N[train], options)
            return head.predict_proba(states_NAD[held_out])

    probs_N = cross_fit(fold_of_rows(run.task.groups, LINEAR_FOLDS, run.seed), fit_predict)
    return np.where(positive_N, probs_N, 1 - probs_N)


def mid_entropy(labels_N: Floats64) -> Floats64:
    """Score labels highest where their entropy is half of its maximum ln 2, (N,)."""
    w = np.clip(labels_N, 1e-6, 1 - 1e-6)
    entropy_N = -(w * np.log(w) + (1 - w) * np.log(1 - w))
    width = max(float(entropy_N.std()), 1e-9)
    return np.asarray(-((entropy_N - np.log(2) / 2) ** 2) / (2 * width**2))


def _enough(rows: Ints, labels_N: Floats64, kind: str) -> Ints:
    n_positive = int((labels_N[rows] > 0.5).sum())
    if len(rows) < MIN_ROWS or n_positive in (0, len(rows)):
        raise MethodFailed(
            f"select {kind} keeps {len(rows)} of {len(labels_N)} rows, {n_positive} of label 1: it "
            f"needs {MIN_ROWS} rows and both labels; keep more"
        )
    return rows
