"""Which rows of a problem give the same answer: told without their texts."""

import re
from collections.abc import Sequence

from aarlab.core.types import Example

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def final_answer(text: str) -> str:
    """The last number of an answer, or the whole text without case and outer space."""
    numbers = _NUMBER.findall(text)
    return numbers[-1].replace(",", "") if numbers else text.strip().lower()


def equality_words(rows: Sequence[Example]) -> tuple[str, ...]:
    """Return a word per row, the same for rows of a problem with the same final answers.

    The words are numbers in the order in which a problem's answers occur. They say nothing else.
    """
    seen: dict[str, dict[tuple[str, ...], str]] = {}
    words = []
    for row in rows:
        of_group = seen.setdefault(row.group, {})
        answers = tuple(map(final_answer, row.answers))
        words.append(of_group.setdefault(answers, str(len(of_group))))
    return tuple(words)
