"""Losses and training on weak labels (methods 3-10). The recipes keep the task's adaptation."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from aarlab.core.errors import MethodFailed
from aarlab.testbed.methods.low_rank import low_rank
from aarlab.testbed.methods.method import Method, plain_method, recipe_method
from aarlab.testbed.recipe import Recipe, TrainStage
from aarlab.testbed.run_recipe import RecipePredictor
from aarlab.testbed.stages.fitting import out_of_fold, train_student
from aarlab.testbed.stages.run import Floats64, RecipeRun
from aarlab.testbed.student import Student, StudentFactory
from aarlab.testbed.task import TrainTask

FORGET_RATE, RAMP_EPOCHS = 0.2, 5


def product() -> Recipe:
    """Target proportional to p^beta w^alpha, no gradient through it (3); alpha = beta = 1.

    EleutherAI's comparison of weak-to-strong losses. Known: no consistent gain over 21 data sets.
    """
    return Recipe(train=TrainStage(loss="product"))


def window() -> Recipe:
    """CE only where max(p, 1-p) < .5 + r, r = .15: sure rows take no gradient (4).

    EleutherAI's comparison. Known: no consistent gain.
    """
    return Recipe(train=TrainStage(loss="window"))


def entropy() -> Recipe:
    """(1-a) CE(p, w) + a H(p): as aux_confidence, with soft targets of its own (5).

    EleutherAI's comparison. Known: no consistent gain.
    """
    return Recipe(train=TrainStage(loss="entropy"))


def reverse_kl() -> Recipe:
    """KL(p || w), mode-seeking: the student may ignore what it cannot fit (6). arXiv 2502.11107."""
    return Recipe(train=TrainStage(loss="reverse_kl"))


def reverse_ce() -> Recipe:
    """Reverse cross-entropy -p log w - (1-p) log(1-w), bounded in p (6). arXiv 2505.24313."""
    return Recipe(train=TrainStage(loss="reverse_ce"))


def linear_probe() -> Recipe:
    """Logistic regression on frozen strong states with hard weak labels (9).

    Burns et al. 2023 (appendix). Known: generalises better than tuning where the teacher's errors
    are not linear in the strong states.
    """
    return Recipe(train=TrainStage(targets="hard", hidden=0, epochs=20))


def label_smoothing() -> Recipe:
    """CE(p, (1-s) H(w) + s/2), s = .1, hard labels (10). Szegedy et al. 2016, arXiv 1512.00567."""
    return Recipe(train=TrainStage(targets="hard", smoothing=0.1))


def bootstrapping(task: TrainTask, student: StudentFactory, seed: int) -> RecipePredictor:
    """Weak -> middle -> strong: each deeper cut learns from the labels of the one before (7).

    Burns et al. 2023, section 4.3.1: there a chain of models of growing size, here the cuts of the
    strong model that the task stores, lowest first. Labels are handed on out of fold (two folds by
    problem), so that no cut repeats the labels it was given. Known: helps on chess, little on NLP.
    """
    middles = [n for n in student.layers(task.inputs) if n < student.layer]
    if not middles:
        raise MethodFailed(
            f"bootstrapping needs states below layer {student.layer}; this task stores none: build "
            "it with more_layers"
        )
    labels_N, rows = task.weak_labels_N, np.arange(len(task.inputs))
    for number, layer in enumerate(middles):
        run = RecipeRun(Recipe(), task, student.at(layer), seed)
        labels_N = out_of_fold(run, rows, labels_N, 2, number)
    run = RecipeRun(Recipe(), task, student, seed)
    return RecipePredictor(run, (train_student(run, rows, labels_N, run.inner_seed(0, 0)),))


@dataclass(frozen=True, slots=True)
class MeanOf:
    """Mean probability of several predictors."""

    members: tuple[Any, ...]

    def predict_proba(self, inputs: Any) -> Floats64:
        return np.asarray(np.mean([m.predict_proba(inputs) for m in self.members], axis=0))


def co_teaching(task: TrainTask, student: StudentFactory, seed: int) -> MeanOf:
    """Two students; each epoch, each learns from the rows on which the other has a small loss (10).

    Han et al. 2018, arXiv 1804.06872: the kept share falls from 1 to 1 - .2 over five epochs, hard
    labels. Each epoch is a phase of its own here (the learning rate falls within it). Prediction:
    the mean of both. Known: made for noise without structure.
    """
    seeds = np.random.SeedSequence([seed, 10]).generate_state(2)
    options = [student.options.model_copy(update={"seed": int(s)}) for s in seeds]
    hard_N = (task.weak_labels_N > 0.5).astype(np.float64)
    one_epoch = [o.model_copy(update={"epochs": 1}) for o in options]
    pair = [student.new(o).fit(task.inputs, hard_N) for o in one_epoch]
    for epoch in range(1, options[0].epochs):
        keep = 1 - FORGET_RATE * min(epoch / RAMP_EPOCHS, 1)
        chosen = [small_loss_rows(member, task, hard_N, keep) for member in pair]
        for member, rows in zip(pair, reversed(chosen), strict=True):
            member.go_on([task.inputs[i] for i in rows], hard_N[rows])
    return MeanOf(tuple(pair))


def small_loss_rows(member: Student, task: TrainTask, hard_N: Floats64, keep: float) -> Floats64:
    """The `keep` share of each class on which the student's loss is smallest, sorted."""
    probs_N = member.predict_proba(task.inputs)
    own_N = np.where(hard_N > 0.5, probs_N, 1 - probs_N)
    parts = [np.flatnonzero(hard_N == label) for label in (0, 1)]
    kept = [p[np.argsort(-own_N[p], kind="stable")[: max(1, round(keep * len(p)))]] for p in parts]
    return np.sort(np.concatenate(kept))


METHODS: tuple[Method, ...] = (
    *map(
        recipe_method,
        (product, window, entropy, reverse_kl, reverse_ce, linear_probe, label_smoothing),
    ),
    *(plain_method(fit) for fit in (bootstrapping, co_teaching, low_rank)),
)
