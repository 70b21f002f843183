"""Ask the model: how much more likely is the statement after its prompt than alone?"""

import numpy as np


class Asked:
    def __init__(self, student):
        self.student = student

    def predict_proba(self, rows):
        logp = self.student.zero_shot(rows)
        gain_N = (logp.given_prompt_NA - logp.alone_NA)[:, 0] / logp.tokens_NA[:, 0]
        return 1 / (1 + np.exp(-gain_N.astype(float)))


def fit(task, student, seed):
    return Asked(student)
