"""The embedded tasks as declared data: how rows are made, and which teacher and student face them.

Settings were chosen on development seeds, frozen, and measured once on the seeds below:
docs/testbed.md has the figures. A fresh seed makes a fresh task: `preset("math", seed=7)`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from aarlab.core.errors import NotFound
from aarlab.testbed.generators.chat_definitions import ChatSettings
from aarlab.testbed.generators.code_functions import CodeSettings
from aarlab.testbed.generators.math_problems import MathSettings
from aarlab.testbed.generators.registry import GeneratorSettings
from aarlab.testbed.options import HeadOptions, TeacherOptions

EMBEDDED_PAIR = "embedded"


@dataclass(frozen=True, slots=True)
class TaskPreset:
    """A task, the pair's layers (blocks kept), and how its teacher and its students are trained."""

    name: str
    settings: GeneratorSettings
    weak_layer: int
    strong_layer: int
    teacher: TeacherOptions
    student: HeadOptions = field(default_factory=HeadOptions)
    pair: str = EMBEDDED_PAIR


def _overfitted(share: float) -> TeacherOptions:
    """A small network trained too long: its errors are its own, so the student can outgrow them."""
    return TeacherOptions(head=HeadOptions(hidden=64, epochs=30, weight_decay=0.0), share=share)


def math_preset() -> TaskPreset:
    return TaskPreset(
        name="math",
        settings=MathSettings(
            seed=1, cue_rate=0.53, operand_share=0.75, misread_share=0.75, misread_more=0.6
        ),
        weak_layer=9,
        strong_layer=21,
        teacher=TeacherOptions(head=HeadOptions(hidden=0, epochs=10, weight_decay=3.0), share=0.9),
        student=HeadOptions(epochs=20),
    )


def chat_preset() -> TaskPreset:
    return TaskPreset(
        name="chat",
        settings=ChatSettings(seed=1, cue_rate=0.55, twisted_share=0.2, near_share=0.5),
        weak_layer=6,
        strong_layer=18,
        teacher=_overfitted(0.9),
        student=HeadOptions(epochs=10),
    )


def code_preset() -> TaskPreset:
    return TaskPreset(
        name="code",
        settings=CodeSettings(seed=1, cue_rate=0.55),
        weak_layer=9,
        strong_layer=21,
        teacher=_overfitted(0.9),
        student=HeadOptions(epochs=20),
    )


PRESETS: dict[str, Callable[[], TaskPreset]] = {
    "math": math_preset,
    "chat": chat_preset,
    "code": code_preset,
}


def preset(name: str, seed: int | None = None) -> TaskPreset:
    """The embedded task of that name, or with another seed a task nobody has seen.

    Raises NotFound naming the tasks there are.
    """
    if name not in PRESETS:
        raise NotFound(f"no embedded task {name!r}; there are {', '.join(PRESETS)}")
    made = PRESETS[name]()
    if seed is None:
        return made
    return replace(made, settings=replace(made.settings, seed=seed))
