"""Who faces a generated task: the teacher and the student that tasks of the embedded pair share.

Each generator's module has its own settings and layers. They were chosen on development seeds,
frozen, and measured once on other seeds: docs/testbed.md has the figures.
"""

from dataclasses import dataclass, field
from typing import Any

from aarlab.testbed.students.options import HeadOptions, TeacherOptions

EMBEDDED_PAIR = "embedded"


def embedded_teacher() -> TeacherOptions:
    """Return the weak teacher of the embedded pair's generated tasks.

    A small network on middle states, with noise on each row's log-odds. Without the noise a head on
    frozen states errs in ways that the strong student copies, and training on its labels gains
    nothing.
    """
    return TeacherOptions(head=HeadOptions(hidden=64, epochs=10, lr=3e-3), share=0.8, noise=1.5)


def embedded_student() -> HeadOptions:
    """Return the training of the strong students of the embedded pair's generated tasks."""
    return HeadOptions(hidden=64, epochs=20, lr=1e-3, weight_decay=1.0)


@dataclass(frozen=True, slots=True)
class TaskPreset:
    """A task, the pair's layers (blocks kept), and how its teacher and its students are trained."""

    name: str
    settings: Any  # of the task's settings type, with a field `seed`
    weak_layer: int
    strong_layer: int
    teacher: TeacherOptions = field(default_factory=embedded_teacher)
    student: HeadOptions = field(default_factory=embedded_student)
    more_layers: tuple[int, ...] = (15, 18)
    pair: str = EMBEDDED_PAIR
