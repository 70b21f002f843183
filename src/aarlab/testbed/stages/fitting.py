"""Stage train: one student on some rows, and out-of-fold predictions (self-training).

Legend: R chosen rows of the train split, `rows` their indices.
"""

import numpy as np

from aarlab.testbed.folds import Ints, cross_fit, fold_of_rows
from aarlab.testbed.stages.run import Floats64, RecipeRun
from aarlab.testbed.student import Student

FIRST_EPOCHS = 2  # methods.md 15: two epochs on the more confident half
WEIGHT_FLOOR = 1e-3  # rows with label 1/2 keep a trace of weight, so that no training set is empty


def train_student(
    run: RecipeRun, rows: Ints, labels_R: Floats64, seed: int, weights_R: Floats64 | None = None
) -> Student:
    """A fresh student trained on `rows` with their soft labels, as stage train says.

    `weights_R` stand in for the stage's own weighting of rows.
    """
    stage, inputs = run.recipe.train, run.rows(rows)
    hard = stage.targets == "hard"
    targets_R = (labels_R > 0.5).astype(np.float64) if hard else labels_R
    confidence_R = np.abs(2 * labels_R - 1)
    if weights_R is None and stage.weighting == "confidence":
        weights_R = np.maximum(confidence_R, WEIGHT_FLOOR)
    options = stage.head(run.factory.options, seed)
    if stage.order == "mixed":
        return run.factory.new(options).fit(inputs, targets_R, weights_R)
    sure = np.argsort(-confidence_R, kind="stable")[: max(2, len(rows) // 2)]
    student = run.factory.new(options.model_copy(update={"epochs": FIRST_EPOCHS}))
    sure_weights_R = None if weights_R is None else weights_R[sure]
    student.fit(run.rows(rows[sure]), targets_R[sure], sure_weights_R)
    slower = options.model_copy(update={"lr": options.lr / 2})
    return student.go_on(inputs, targets_R, weights_R, slower)


def out_of_fold(run: RecipeRun, rows: Ints, labels_R: Floats64, folds: int, place: int) -> Floats64:
    """P(label 1) for `rows`, each by a student that was not trained on its problem."""

    def fit_predict(train: Ints, held_out: Ints) -> Floats64:
        seed = run.inner_seed(place, int(held_out[0]))
        student = train_student(run, rows[train], labels_R[train], seed)
        return student.predict_proba(run.rows(rows[held_out]))

    return cross_fit(fold_of_rows(run.groups(rows), folds, run.inner_seed(place)), fit_predict)
