"""Contrast pairs: a row said to be right and said to be wrong, for CCS, VINC and templates.

A preference row is a pair by itself: its two answers, one of which is better. A verification row
is asked about ("Is this right?") with the answers Yes and No; that needs the model, as a task
stores the features of its own texts only. Legend: N rows, D state width.
"""

from collections.abc import Sequence

import numpy as np

from aarlab.core.errors import MethodFailed, NotFound
from aarlab.core.types import Example
from aarlab.testbed.features import AnswerLogp
from aarlab.testbed.losses import Floats
from aarlab.testbed.stages.run import Floats64
from aarlab.testbed.student import StudentFactory
from aarlab.testbed.verdicts import QUESTIONS, verdict_row

NEEDS_MODEL = "it asks the strong model about new texts, and this run has stored features only; "
NEEDS_MODEL += "run it where the model is: aarlab testbed run"


def contrast_states(student: StudentFactory, inputs: Sequence[Example]) -> Floats:
    """States (N, 2, D) of each row said to be right (0) and wrong (1); MethodFailed without the
    model where it is needed."""
    rows = list(inputs)
    if rows[0].kind == "verification":
        rows = [verdict_row(example, QUESTIONS[0]) for example in rows]
    try:
        return student.states(rows)
    except NotFound as error:
        raise MethodFailed(NEEDS_MODEL) from error


def verdict_margins(student: StudentFactory, inputs: Sequence[Example]) -> Floats64:
    """log P(label 1's word) - log P(label 0's) for each question in both orders, (N, 6)."""
    asked = [
        [verdict_row(example, question, swapped) for example in inputs]
        for question in QUESTIONS
        for swapped in (False, True)
    ]
    try:
        answers: list[AnswerLogp] = [student.zero_shot(rows) for rows in asked]
    except NotFound as error:
        raise MethodFailed(NEEDS_MODEL) from error
    columns = [logp.given_prompt_NA[:, 0] - logp.given_prompt_NA[:, 1] for logp in answers]
    return np.stack(columns, axis=1).astype(np.float64)
