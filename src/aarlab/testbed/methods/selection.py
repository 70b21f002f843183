"""Selecting, weighting and relabelling train rows (methods 12-19)."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from aarlab.testbed.methods.method import Method, plain_method, recipe_method
from aarlab.testbed.recipes.recipe import Recipe, SelectStage, TrainStage
from aarlab.testbed.recipes.run_recipe import RecipePredictor
from aarlab.testbed.recipes.stages import (
    Floats64,
    RecipeRun,
    linear_agreement,
    log_odds,
    nearest_of,
    neighbour_agreement,
    out_of_fold,
    top_rows,
    train_student,
)
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.students.teacher import Ints, fit_temperature
from aarlab.testbed.tasks.train_task import TrainTask

HARD = Recipe(train=TrainStage(targets="hard"))
NEIGHBOURS, DROPPED = 50, 0.1
EASY_SHARE, SMOOTHED_SHARE, CONVEXITY = 0.5, 0.4, 2.0
KNOWN_SHARE = 0.3
Score = Callable[[RecipeRun], Floats64]


def mdl_curriculum() -> Recipe:
    """Train two epochs on the more confident half, then on all rows at half the learning rate (15).

    Soft labels. Found by an AAR of the study (PGR .68 on chat), where the second phase is 3 epochs;
    here it has the task's number of epochs. Not confirmed independently.
    """
    return Recipe(train=TrainStage(order="confident_first"))


def calibrated_weights(task: TrainTask, student: StudentFactory, seed: int) -> RecipePredictor:
    """Weigh each row by the teacher's estimated reliability 2 max(w', 1-w') - 1 (12).

    w' = sigmoid(logit(w) / T) with T that makes the weak labels calibrated against the strong
    model's own zero-shot answers (agreement instead of truth). Hard labels.
    """
    run = RecipeRun(HARD, task, student, seed)
    weights_N = reliability_weights(task.weak_labels_N, run.margins("pmi") > 0)
    return _students(run, np.arange(len(weights_N)), task.weak_labels_N, weights_N)


def reliability_weights(weak_N: Floats64, own_N: NDArray[np.bool_]) -> Floats64:
    """Return |2 w' - 1| after calibration against the answers `own_N`, at least .001."""
    logits_N = log_odds(weak_N)
    temperature = fit_temperature(logits_N, own_N.astype(np.float64))
    return np.maximum(np.abs(np.tanh(logits_N / temperature / 2)), 1e-3)


def _logistic(run: RecipeRun) -> Floats64:
    """Return the out-of-fold P(own hard label | state) of a logistic regression, (N,)."""
    return linear_agreement(run, run.task.weak_labels_N > 0.5)


def _neighbour_share(run: RecipeRun) -> Floats64:
    """Return the share of the 50 nearest neighbours that have the row's label, (N,)."""
    return neighbour_agreement(nearest_of(run, NEIGHBOURS), run.task.weak_labels_N > 0.5)


def _component_size(run: RecipeRun) -> Floats64:
    """Return the row's component size in the graph of 5 nearest rows of the same label, (N,)."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    near = nearest_of(run, 5).bank_NK
    n, positive_N = len(near), run.task.weak_labels_N > 0.5
    label_M = np.concatenate([positive_N, ~positive_N])
    rows, places = np.nonzero(label_M[near] == positive_N[:, None])
    edges = coo_matrix((np.ones(len(rows)), (rows, near[rows, places] % n)), shape=(n, n))
    _, component_N = connected_components(edges, directed=False)
    return np.asarray(np.bincount(component_N)[component_N], np.float64)


def _drop_worst(run: RecipeRun, score: Score) -> Ints:
    return top_rows(score(run), run.task.weak_labels_N, 1 - DROPPED, balanced=True)


def _filtered(
    score: Score, what: str
) -> Callable[[TrainTask, StudentFactory, int], RecipePredictor]:
    def fit(task: TrainTask, student: StudentFactory, seed: int) -> RecipePredictor:
        run = RecipeRun(HARD, task, student, seed)
        return _students(run, _drop_worst(run, score), task.weak_labels_N)

    fit.__doc__ = f"""Drop the 10 % of each class that are lowest by a neighbourhood score (13).

    The score: {what} Hard labels. Known: independent evidence is negative.
    """
    return fit


neighbourhood_drop = _filtered(
    _neighbour_share, "Share of the 50 nearest neighbours that have the row's label, (N,)."
)
neighbourhood_logistic = _filtered(
    _logistic, "Out-of-fold P(own hard label | state) of a logistic regression on the states, (N,)."
)
neighbourhood_component = _filtered(
    _component_size,
    "Size of the row's component in the graph of its 5 nearest rows of the same label.",
)


def neighbourhood_relabel(task: TrainTask, student: StudentFactory, seed: int) -> RecipePredictor:
    """Flip the labels of the 10 % of each class that their neighbours contradict most (13).

    The neighbours are the 50 nearest. Known: independent evidence is negative.
    """
    run = RecipeRun(HARD, task, student, seed)
    kept = _drop_worst(run, _neighbour_share)
    labels_N = 1 - task.weak_labels_N
    labels_N[kept] = task.weak_labels_N[kept]
    return _students(run, np.arange(len(labels_N)), labels_N)


def overlap_density() -> Recipe:
    """Keep the half of each class with the highest sum of four z-scores, then fine-tune (14).

    On frozen states: out-of-fold logistic P(own label), share of the 50 nearest neighbours with the
    same label, local density (their mean cosine), and mid-entropy -(H(w) - ln 2 / 2)^2 / (2
    width^2), with width the spread of H. After Shin, Cooper, Sala (ICLR 2025); the variant of an
    AAR of the study (PGR .75 on chat). Hard labels.
    """
    return Recipe(select=SelectStage(kind="overlap"), train=TrainStage(targets="hard"))


def epiplexity(task: TrainTask, student: StudentFactory, seed: int) -> RecipePredictor:
    """Smooth the labels of rows from which a student learns little (16).

    The labels are soft and out of fold, from two folds. A student trained on them records each
    row's first minus last loss. The lowest 40 % get labels moved toward 1/2 by (1 - rank / .4)^2.
    Then it trains on all rows. Heads are swap-consistent, so both orderings come for free. Found by
    an AAR (PGR .62 on chat).
    """
    run = RecipeRun(Recipe(), task, student, seed)
    rows = np.arange(len(task.inputs))
    labels_N = out_of_fold(run, rows, task.weak_labels_N, 2, 1)
    options = student.options.model_copy(update={"seed": run.inner_seed(2)})
    probe = student.new(options.model_copy(update={"epochs": 1})).fit(task.inputs, labels_N)
    first_N = _loss(probe.predict_proba(task.inputs), labels_N)
    probe.go_on(task.inputs, labels_N, options=options)
    gain_N = first_N - _loss(probe.predict_proba(task.inputs), labels_N)
    return _students(run, rows, smoothed(labels_N, gain_N))


def smoothed(labels_N: Floats64, gain_N: Floats64) -> Floats64:
    """Move labels toward 1/2 by (1 - rank / .4)^2 where the rank of the gain is below .4."""
    rank_N = np.argsort(np.argsort(gain_N, kind="stable")) / len(gain_N)
    strength_N = np.clip(1 - rank_N / SMOOTHED_SHARE, 0, 1) ** CONVEXITY
    return np.asarray((1 - strength_N) * labels_N + strength_N / 2)


def _loss(probs_N: Floats64, labels_N: Floats64) -> Floats64:
    p = np.clip(probs_N, 1e-6, 1 - 1e-6)
    return np.asarray(-(labels_N * np.log(p) + (1 - labels_N) * np.log(1 - p)))


def reliability(task: TrainTask, student: StudentFactory, seed: int) -> RecipePredictor:
    """Train on the mean label of all weak teachers, rows weighted by how far these agree (17).

    Reliability-aware alignment, arXiv 2406.19032: there several sampled answers of one teacher,
    here its seeds. Weight |2 v - 1| with v the share of teachers that say 1; rows that split the
    teachers weigh nothing. It uses more teachers than vanilla: compare with vanilla_teachers.
    """
    run = RecipeRun(Recipe(), task, student, seed)
    votes_N = (task.teacher_labels_SN > 0.5).mean(axis=0)
    weights_N = np.maximum(np.abs(2 * votes_N - 1), 1e-3)
    labels_N = task.teacher_labels_SN.mean(axis=0)
    return _students(run, np.arange(len(labels_N)), labels_N, weights_N)


def two_stage(task: TrainTask, student: StudentFactory, seed: int) -> RecipePredictor:
    """Train on the surer half first, then on all rows, the rest with that student's labels (18).

    After arXiv 2503.04249. The surer half keeps its weak labels. The discarded rows come back,
    labelled by the student of stage one, where its confidence is above the median.
    """
    run = RecipeRun(HARD, task, student, seed)
    weak_N = task.weak_labels_N
    sure = top_rows(np.abs(weak_N - 0.5), weak_N, EASY_SHARE, balanced=True)
    first = train_student(run, sure, weak_N[sure], run.inner_seed(1))
    rest = np.setdiff1d(np.arange(len(weak_N)), sure)
    own_R = first.predict_proba(run.rows(rest))
    trusted = np.abs(own_R - 0.5) >= np.median(np.abs(own_R - 0.5))
    labels_N = weak_N.copy()
    labels_N[rest] = own_R
    return _students(run, np.sort(np.concatenate([sure, rest[trusted]])), labels_N)


def selective(task: TrainTask, student: StudentFactory, seed: int) -> RecipePredictor:
    """Use the strong model's own label where it knows, the weak label elsewhere (19).

    arXiv 2511.14166 trains a classifier of "I know". Here the model knows the 30 % of the rows with
    the largest zero-shot margin, if its three zero-shot scores agree in sign.
    """
    run = RecipeRun(HARD, task, student, seed)
    margins_NK = run.zero_shot.all_margins(run.logp)
    mean_N = margins_NK.mean(axis=1)
    agreed_N = (np.sign(margins_NK) == np.sign(mean_N)[:, None]).all(axis=1)
    knows_N = agreed_N & (np.abs(mean_N) >= np.quantile(np.abs(mean_N), 1 - KNOWN_SHARE))
    labels_N = np.where(knows_N, (mean_N > 0).astype(np.float64), task.weak_labels_N)
    return _students(run, np.arange(len(labels_N)), labels_N)


def _students(
    run: RecipeRun, rows: Ints, labels_N: Floats64, weights_N: Floats64 | None = None
) -> RecipePredictor:
    """Train one student of the run's recipe on these rows."""
    weights_R = None if weights_N is None else weights_N[rows]
    student = train_student(run, rows, labels_N[rows], run.inner_seed(0, 0), weights_R)
    return RecipePredictor(run, (student,))


METHODS: tuple[Method, ...] = (
    plain_method(calibrated_weights),
    plain_method(neighbourhood_drop, "neighbourhood_drop"),
    plain_method(neighbourhood_relabel),
    plain_method(neighbourhood_logistic, "neighbourhood_logistic"),
    plain_method(neighbourhood_component, "neighbourhood_component"),
    recipe_method(overlap_density),
    recipe_method(mdl_curriculum),
    plain_method(epiplexity),
    plain_method(reliability),
    plain_method(two_stage),
    plain_method(selective),
)
