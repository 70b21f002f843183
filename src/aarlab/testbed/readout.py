"""How rows are put to a student that trains blocks. Imports no torch."""

from collections.abc import Sequence

from aarlab.core.types import Example
from aarlab.testbed.models.answers import AnswerItem
from aarlab.testbed.options import AdapterOptions
from aarlab.testbed.verdicts import QUESTIONS, verdict_row


def student_items(examples: Sequence[Example], adapter: AdapterOptions) -> list[AnswerItem]:
    """Texts that go through the model: each answer after its prompt, or each row as a question
    with the first of its two labels."""
    if adapter.readout == "labels":
        asked = [verdict_row(example, QUESTIONS[0]) for example in examples]
        return [AnswerItem(row.prompt, row.answers[0]) for row in asked]
    return [AnswerItem(example.prompt, a) for example in examples for a in example.answers]
