"""Train on the half of the rows that the weak teacher is surest about, with hard labels."""

import numpy as np


def fit(task, student, seed):
    sure_N = np.abs(task.weak_labels_N - 0.5)
    kept = np.flatnonzero(sure_N >= np.median(sure_N))
    rows = [task.inputs[i] for i in kept]
    hard_N = (task.weak_labels_N[kept] > 0.5).astype(float)
    options = student.options.model_copy(update={"seed": seed})
    return student.new(options).fit(rows, hard_N)
