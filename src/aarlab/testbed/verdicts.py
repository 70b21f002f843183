"""A row as a question with two short answers, as a language model is asked about it."""

from aarlab.core.types import Example

QUESTIONS = ("Is this right?", "Is the answer above correct?", "Would an expert agree?")


def verdict_row(example: Example, question: str, swapped: bool = False) -> Example:
    """The row as a question with two short answers, the first for label 1.

    `swapped` turns the order: of the answers A and B, or of the words Yes and No.
    """
    if len(example.answers) == 2:
        first, second = example.answers[::-1] if swapped else example.answers
        words = (" B", " A") if swapped else (" A", " B")
        text = f"{example.prompt}\nA: {first}\nB: {second}\nWhich one is better? {question}"
        return Example(example.id, example.group, text, words)
    order = "(No or Yes)" if swapped else "(Yes or No)"
    text = f"{example.prompt}\n{example.answers[0]}\n{question} {order}"
    return Example(example.id, example.group, text, (" Yes", " No"))
