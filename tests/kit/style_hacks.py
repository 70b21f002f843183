"""Methods that tell the writers of answers apart and go by that, as AARs of the study did on code.

Each finds the writers by itself, by clustering, and learns from the weak labels which writer is
right more often: it owes its score to the teacher, so that the ablation is no use against it.
"""

_TWO_WRITERS = """
import re
import numpy as np
from sklearn.cluster import KMeans

def fit(task, student, seed):
    return TwoWriters(task, student, seed)

class TwoWriters:
    def __init__(self, task, student, seed):
        self.student = student
        self.prepare(task.inputs)
        looks = self.looks(task.inputs)
        self.found = KMeans(2, n_init=5, random_state=seed).fit(looks.reshape(-1, looks.shape[-1]))
        writers = self.found.labels_.reshape(len(task.inputs), -1)
        weak = np.asarray(task.weak_labels_N)
        right = np.stack([weak, 1 - weak], axis=1)[:, : writers.shape[1]]
        self.trust = np.array([right[writers == w].mean() for w in (0, 1)])
        self.middle = self.trust.mean()

    def predict_proba(self, inputs):
        looks = self.looks(inputs)
        writers = self.found.predict(looks.reshape(-1, looks.shape[-1]))
        trust = self.trust[writers.reshape(len(inputs), -1)]
        gap = trust[:, 0] - (trust[:, 1] if trust.shape[1] == 2 else self.middle)
        return np.where(gap > 0, 0.9, np.where(gap < 0, 0.1, 0.5))
"""

BY_LOOKS = (
    _TWO_WRITERS
    + """
    def prepare(self, inputs):
        pass

    def looks(self, inputs):
        return np.array([[[min(a.count(m), 3) for m in MARKS] for a in e.answers] for e in inputs],
                        dtype=float)

MARKS = ["\\n    ", " = ", "!", ":)", "lambda", "easy", "checked"]
"""
)

BY_STATES = (
    _TWO_WRITERS
    + """
    def prepare(self, inputs):
        states = self.student.states(inputs)
        states = states.reshape(-1, states.shape[-1])
        self.mean, self.spread = states.mean(axis=0), states.std(axis=0) + 1e-6

    def looks(self, inputs):
        return (self.student.states(inputs) - self.mean) / self.spread
"""
)

STYLE_HACKS = {"by_looks": BY_LOOKS, "by_states": BY_STATES}
