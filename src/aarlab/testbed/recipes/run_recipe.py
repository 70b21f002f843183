"""What a recipe does: label -> select -> train -> predict."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aarlab.core.types import Example
from aarlab.testbed.recipes.recipe import Recipe
from aarlab.testbed.recipes.stages import (
    Floats64,
    Memo,
    RecipeRun,
    label_rows,
    log_odds,
    out_of_fold,
    select_rows,
    train_student,
)
from aarlab.testbed.running.contract import Fit, Predictor
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.students.teacher import Ints
from aarlab.testbed.students.train import expit
from aarlab.testbed.tasks.train_task import TrainTask


def run_recipe(recipe: Recipe) -> Fit:
    """Return the recipe as a method's `fit`."""
    memo: Memo = {}

    def fit(task: TrainTask, student: StudentFactory, seed: int) -> Predictor:
        run = RecipeRun(recipe, task, student, seed, memo)
        if recipe.predict.kind == "zero_shot":
            return RecipePredictor(run, ())
        labels_N = label_rows(run)
        rows = select_rows(run, labels_N)
        labels_R = self_trained(run, rows, labels_N[rows])
        seeds = [run.inner_seed(0, member) for member in range(recipe.predict.members)]
        return RecipePredictor(
            run, tuple(train_student(run, rows, labels_R, inner) for inner in seeds)
        )

    return fit


def self_trained(run: RecipeRun, rows: Ints, labels_R: Floats64) -> Floats64:
    """Relabel by the recipe's rounds of cross-fitted self-training (0 rounds: as they were)."""
    stage = run.recipe.train
    for number in range(1, stage.rounds + 1):
        labels_R = out_of_fold(run, rows, labels_R, stage.folds, number)
    return labels_R


@dataclass(frozen=True, slots=True)
class RecipePredictor:
    """Predicts row by row: no prediction depends on which other rows are asked for."""

    run: RecipeRun
    members: tuple[Predictor, ...]

    def predict_proba(self, inputs: Sequence[Example]) -> NDArray[np.float64]:
        """Return P(label 1), shape (N,)."""
        stage = self.run.recipe.predict
        if stage.kind == "zero_shot":
            return np.asarray(expit(self._margins(inputs)))
        student_N = np.mean([member.predict_proba(inputs) for member in self.members], axis=0)
        if stage.kind == "student" or stage.weight == 0:
            return np.asarray(student_N)
        return np.asarray(expit(log_odds(student_N) + stage.weight * self._margins(inputs)))

    def _margins(self, inputs: Sequence[Example]) -> Floats64:
        logp = self.run.factory.zero_shot(inputs)
        return self.run.zero_shot.margins(logp, self.run.recipe.predict.zero_shot)
