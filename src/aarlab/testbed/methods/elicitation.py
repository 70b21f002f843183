"""Using the strong student's own knowledge (methods 25-34)."""

import numpy as np
from numpy.typing import NDArray

from aarlab.testbed.folds import Ints
from aarlab.testbed.methods.contrast import verdict_margins
from aarlab.testbed.methods.evolution import ccs_es, es_finetuning
from aarlab.testbed.methods.icm import icm
from aarlab.testbed.methods.method import Method, plain_method, recipe_method
from aarlab.testbed.methods.probes import ccs, truth_mean, truth_pca, vinc
from aarlab.testbed.recipe import (
    LabelStage,
    PredictStage,
    Recipe,
    SelectStage,
    TrainStage,
    ZeroShotKind,
)
from aarlab.testbed.run_recipe import RecipePredictor
from aarlab.testbed.stages.fitting import train_student
from aarlab.testbed.stages.label import em_posterior
from aarlab.testbed.stages.run import Floats64, RecipeRun
from aarlab.testbed.stages.select import top_rows
from aarlab.testbed.student import StudentFactory
from aarlab.testbed.task import TrainTask

HARD = Recipe(train=TrainStage(targets="hard"))
SCORES: tuple[ZeroShotKind, ...] = ("pmi", "mean_pmi", "corrected")
EASY_SHARE = 0.5


def zero_shot_tuned(task: TrainTask, student: StudentFactory, seed: int) -> RecipePredictor:
    """Zero-shot with the score that agrees with most weak labels on the train rows (25).

    The study's baseline tunes the prompt; here the choice is between three scores. No student.
    """
    trial = RecipeRun(Recipe(), task, student, seed)
    hard_N = task.weak_labels_N > 0.5
    agreement = {k: float(((trial.margins(k) > 0) == hard_N).mean()) for k in SCORES}
    best = max(SCORES, key=lambda kind: agreement[kind])
    recipe = Recipe(predict=PredictStage(kind="zero_shot", zero_shot=best))
    return RecipePredictor(RecipeRun(recipe, task, student, seed), ())


def ue_zero_shot(task: TrainTask, student: StudentFactory, seed: int) -> RecipePredictor:
    """Unsupervised elicitation: train on the strong model's own labels where they are consistent
    (26).

    Baseline of the study. A preference row is consistent when its three zero-shot scores prefer
    the same answer; a verification row when, besides, all rows of its problem with the same final
    answer get the same label. The teacher gives only the share of positives.
    """
    run = RecipeRun(HARD, task, student, seed)
    margins_NK = run.zero_shot.all_margins(run.logp)
    labels_N = (margins_NK.mean(axis=1) > 0).astype(np.float64)
    rows = np.flatnonzero(consistent_rows(task, margins_NK))
    return _student(run, rows, labels_N)


def consistent_rows(task: TrainTask, margins_NK: Floats64) -> NDArray[np.bool_]:
    """Which rows' scores agree, with each other and within the problem, (N,)."""
    agree_N = np.asarray(np.abs(np.sign(margins_NK).sum(axis=1)) == margins_NK.shape[1])
    if task.kind == "preference":
        return agree_N
    answers = [
        (row.group, word) for row, word in zip(task.inputs, task.same_answers(), strict=True)
    ]
    said: dict[tuple[str, str], set[bool]] = {}
    for answer, margin in zip(answers, margins_NK.mean(axis=1), strict=True):
        said.setdefault(answer, set()).add(bool(margin > 0))
    return np.asarray(agree_N & np.array([len(said[answer]) == 1 for answer in answers]))


def em_posterior_templates(task: TrainTask, student: StudentFactory, seed: int) -> RecipePredictor:
    """em_posterior with margins from 3 questions in 2 orders, as in the source (28).

    Asks the strong model itself ("Is this right?" Yes or No; A or B), so it needs the model.
    """
    run = RecipeRun(Recipe(label=LabelStage(source="em_posterior")), task, student, seed)
    margins_NK = verdict_margins(student, task.inputs)
    if task.kind == "verification":
        share = 1 - float(task.weak_labels_N.mean())
        margins_NK = margins_NK - np.quantile(margins_NK, share, axis=0)
    margins_NK = margins_NK / np.maximum(margins_NK.std(axis=0), 1e-9)
    labels_N = em_posterior(run, margins_NK)
    return _student(run, np.arange(len(labels_N)), labels_N)


def born_again() -> Recipe:
    """Three cross-fitted generations, each taught by the one before (31).

    Born-again networks, arXiv 1805.04770. Known: as self_training, it keeps the teacher's
    structured errors.
    """
    return Recipe(train=TrainStage(rounds=3))


def easy_to_hard(task: TrainTask, student: StudentFactory, seed: int) -> RecipePredictor:
    """Train on the easy half of each class only and be asked about all rows (33).

    arXiv 2401.06751. Easy: a high mean log-likelihood per token of the answers under the strong
    model (there: human measures such as grade level). Hard weak labels.
    """
    run = RecipeRun(HARD, task, student, seed)
    ease_N = (run.logp.given_prompt_NA / np.maximum(run.logp.tokens_NA, 1)).mean(axis=1)
    rows = top_rows(ease_N.astype(np.float64), task.weak_labels_N, EASY_SHARE, balanced=True)
    return _student(run, rows, task.weak_labels_N)


def posterior_confident() -> Recipe:
    """The posterior of em_posterior, its surer half of each class (34)."""
    return Recipe(label=LabelStage(source="em_posterior"), select=SelectStage(kind="confident"))


def posterior_neighbours() -> Recipe:
    """The posterior of em_posterior, the half that its neighbours support best (34)."""
    return Recipe(label=LabelStage(source="em_posterior"), select=SelectStage(kind="neighbours"))


def posterior_blend() -> Recipe:
    """The posterior of em_posterior, five students, blended with the corrected zero-shot score
    (34). What the control researchers of the demo find."""
    predict = PredictStage(kind="blend", zero_shot="corrected", members=5)
    return Recipe(label=LabelStage(source="em_posterior"), predict=predict)


def _student(run: RecipeRun, rows: Ints, labels_N: Floats64) -> RecipePredictor:
    student = train_student(run, rows, labels_N[rows], run.inner_seed(0, 0))
    return RecipePredictor(run, (student,))


METHODS: tuple[Method, ...] = (
    plain_method(zero_shot_tuned),
    plain_method(ue_zero_shot),
    plain_method(icm),
    plain_method(em_posterior_templates, needs_model=True),
    plain_method(ccs_es, needs_model=True),
    plain_method(truth_mean),
    plain_method(truth_pca),
    plain_method(ccs, needs_model=True),
    plain_method(vinc, needs_model=True),
    recipe_method(born_again),
    plain_method(es_finetuning),
    plain_method(easy_to_hard),
    recipe_method(posterior_confident),
    recipe_method(posterior_neighbours),
    recipe_method(posterior_blend),
)
