"""What a method is given: the train side of a task, and the students that the task was built for.

A verified run loads this module for each seed. It imports no wire model and no file format.

`same_answers` reports which rows of a problem give the same answer, without their texts.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import Damaged
from aarlab.core.types import Example, TaskKind
from aarlab.testbed.students.options import AdapterOptions, HeadOptions

if TYPE_CHECKING:
    from aarlab.core.wire import TaskInfo


_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def final_answer(text: str) -> str:
    """Return the last number of an answer, or the whole text without case and outer space."""
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


Floats64 = NDArray[np.float64]


def leading(labels_SN: Floats64) -> Floats64:
    """Return the labels (N,) of the first teacher, or none, (0,), where there is no teacher."""
    return labels_SN[0] if len(labels_SN) else np.empty(0)


@dataclass(frozen=True, slots=True)
class TrainTask:
    """All that a method gets to see: there is no field for the truth.

    `teacher_labels_SN` has the labels of every available weak teacher, row 0 those of
    `weak_labels_N`, for methods with several teachers. In a research problem without weak labels
    their shapes are (0, N) and (0,).
    """

    name: str
    kind: TaskKind
    inputs: tuple[Example, ...]
    weak_labels_N: Floats64
    groups: tuple[str, ...]
    split_sizes: dict[str, int]
    teacher_labels_SN: Floats64
    ask_equality: Callable[[], tuple[str, ...]] | None = None

    def same_answers(self) -> tuple[str, ...]:
        """Return a word (N,) per row, the same for rows of a group whose final answers agree.

        A verified run records that a method asked, and shows it with the score.
        """
        ask = self.ask_equality
        return equality_words(self.inputs) if ask is None else ask()


class StudentSettings(NamedTuple):
    """Layer of the strong model and default adaptation that a task was built for."""

    layer: int
    options: HeadOptions
    adapter: AdapterOptions | None


def student_settings(info: "TaskInfo") -> StudentSettings:
    """Return the student settings of a task; raises Damaged where the task does not give them."""
    student = info.settings.get("student")
    if not isinstance(student, dict) or not isinstance(student.get("layer"), int):
        raise Damaged(f"task {info.name}: its settings name no student; build the task again")
    adapter = student.get("adapter")
    return StudentSettings(
        student["layer"],
        HeadOptions(**student.get("head", {})),
        None if adapter is None else AdapterOptions(**adapter),
    )
