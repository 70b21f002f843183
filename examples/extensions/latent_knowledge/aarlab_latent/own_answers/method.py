"""Train a probe of the states on the model's own answers, centred so that half are called true.

One answer is noisy; what many answers have in common is a direction of the states.
"""

import numpy as np


def fit(task, student, seed):
    logp = student.zero_shot(task.inputs)
    gain_N = ((logp.given_prompt_NA - logp.alone_NA) / logp.tokens_NA)[:, 0]
    believed_N = (gain_N > np.median(gain_N)).astype(float)
    options = student.options.model_copy(update={"seed": seed})
    return student.new(options).fit(task.inputs, believed_N)
