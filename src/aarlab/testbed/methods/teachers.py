"""Several teachers and assisted teachers (methods 20-22).

They get the labels of every weak teacher; vanilla gets those of one. Compare them with
`vanilla_teachers`, which shows what more teachers alone are worth. Legend: S teachers, N rows.
"""

import numpy as np

from aarlab.testbed.methods.method import Method, plain_method, recipe_method
from aarlab.testbed.recipes.recipe import LabelStage, Recipe
from aarlab.testbed.recipes.run_recipe import RecipePredictor
from aarlab.testbed.recipes.stages import Floats64, RecipeRun, log_odds, out_of_fold, train_student
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.tasks.train_task import TrainTask

ROUNDS, NOISY_SHARE = 2, 0.2


def vanilla_teachers() -> Recipe:
    """Train on the mean label of all weak teachers: the comparator of this family."""
    return Recipe(label=LabelStage(source="teachers"))


def ensemble_teachers(task: TrainTask, student: StudentFactory, seed: int) -> RecipePredictor:
    """Combine teachers with AdaBoost weights 1/2 ln((1-e)/e) on their log-odds (20).

    EnsemW2S, arXiv 2410.04571, boosts against labelled rows, round by round. A method has none
    here: e is a teacher's disagreement with the vote of the others, in one pass, so a teacher that
    shares the majority's mistakes gains weight.
    """
    weights_S = boosting_weights(task.teacher_labels_SN)
    combined_N = weights_S @ log_odds(task.teacher_labels_SN) / max(float(weights_S.sum()), 1e-9)
    return _student(task, student, seed, np.asarray(1 / (1 + np.exp(-combined_N))))


def boosting_weights(labels_SN: Floats64) -> Floats64:
    """Return 1/2 ln((1-e)/e) by leave-one-out vote, not below 0, (S,); one teacher weighs 1."""
    if len(labels_SN) == 1:
        return np.ones(1)
    odds_SN = log_odds(labels_SN)
    others_SN = odds_SN.sum(axis=0) - odds_SN
    error_S = np.clip(((odds_SN > 0) != (others_SN > 0)).mean(axis=1), 0.01, 0.99)
    return np.asarray(np.maximum(0.5 * np.log((1 - error_S) / error_S), 1e-3))


def co_supervised(task: TrainTask, student: StudentFactory, seed: int) -> RecipePredictor:
    """Teach each row by the teacher that fits the current student best (21).

    Co-supervised learning, arXiv 2402.15505: a mixture of specialised teachers, assigned by EM with
    a filter for rows on which even the best one disagrees with the student (here the fifth with the
    largest gap). Two rounds; the student's predictions are out of fold.
    """
    run = RecipeRun(Recipe(), task, student, seed)
    rows, labels_N = np.arange(len(task.inputs)), task.teacher_labels_SN.mean(axis=0)
    kept = rows
    for number in range(ROUNDS):
        own_N = out_of_fold(run, rows, labels_N, 2, number)
        labels_N, gap_N = closest_teacher(task.teacher_labels_SN, own_N)
        kept = np.flatnonzero(gap_N <= np.quantile(gap_N, 1 - NOISY_SHARE))
    member = train_student(run, kept, labels_N[kept], run.inner_seed(0, 0))
    return RecipePredictor(run, (member,))


def closest_teacher(labels_SN: Floats64, own_N: Floats64) -> tuple[Floats64, Floats64]:
    """Return label and distance of the teacher nearest to the student's probability, each (N,)."""
    gap_SN = np.abs(labels_SN - own_N)
    best_N, rows = gap_SN.argmin(axis=0), np.arange(len(own_N))
    return labels_SN[best_N, rows], gap_SN[best_N, rows]


def bayesian_ensemble(task: TrainTask, student: StudentFactory, seed: int) -> RecipePredictor:
    """Train on a Beta posterior over the teachers' votes, rows weighted by its precision (22).

    Bayesian weak-to-strong, arXiv 2406.03199, trains by evidential deep learning. Here the Beta is
    in closed form: alpha = 1 + sum w, beta = 1 + sum (1 - w). The soft label is its mean. The
    weight is 1 minus its standard deviation over that of the uniform prior.
    """
    mean_N, weight_N = beta_labels(task.teacher_labels_SN)
    return _student(task, student, seed, mean_N, weight_N)


def beta_labels(labels_SN: Floats64) -> tuple[Floats64, Floats64]:
    """Return mean and weight of each row's Beta posterior, each (N,)."""
    alpha_N, beta_N = 1 + labels_SN.sum(axis=0), 1 + (1 - labels_SN).sum(axis=0)
    total_N = alpha_N + beta_N
    variance_N = alpha_N * beta_N / (total_N**2 * (total_N + 1))
    return alpha_N / total_N, np.maximum(1 - np.sqrt(variance_N * 12), 1e-3)


def _student(
    task: TrainTask,
    student: StudentFactory,
    seed: int,
    labels_N: Floats64,
    weights_N: Floats64 | None = None,
) -> RecipePredictor:
    run = RecipeRun(Recipe(), task, student, seed)
    rows = np.arange(len(labels_N))
    member = train_student(run, rows, labels_N, run.inner_seed(0, 0), weights_N)
    return RecipePredictor(run, (member,))


METHODS: tuple[Method, ...] = (
    recipe_method(vanilla_teachers),
    plain_method(ensemble_teachers),
    plain_method(co_supervised),
    plain_method(bayesian_ensemble),
)
