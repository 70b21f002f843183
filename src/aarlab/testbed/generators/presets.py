"""The embedded tasks as declared data: how rows are made, and which teacher and student face them.

Settings were chosen on development seeds, frozen, and measured once on the seeds below:
docs/testbed.md has the figures. A fresh seed makes a fresh task: `preset("math", seed=7)`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from aarlab.core.errors import NotFound
from aarlab.testbed.generators.assembly import SplitRows
from aarlab.testbed.generators.chat_definitions import ChatSettings
from aarlab.testbed.generators.code_functions import CodeSettings
from aarlab.testbed.generators.math_problems import MathSettings
from aarlab.testbed.generators.registry import GeneratorSettings
from aarlab.testbed.options import HeadOptions, TeacherOptions

EMBEDDED_PAIR = "embedded"
MATH_ROWS = SplitRows(teacher=400, train=800, search=400, selection=400, certify=300)
CHAT_ROWS = SplitRows(teacher=600, train=1000, search=500, selection=500, certify=300)
CODE_ROWS = SplitRows(teacher=500, train=700, search=400, selection=400, certify=300)


@dataclass(frozen=True, slots=True)
class TaskPreset:
    """A task, the pair's layers (blocks kept), and how its teacher and its students are trained."""

    name: str
    settings: GeneratorSettings
    weak_layer: int
    strong_layer: int
    teacher: TeacherOptions
    student: HeadOptions = field(default_factory=HeadOptions)
    more_layers: tuple[int, ...] = (15, 18)
    pair: str = EMBEDDED_PAIR


def _hasty_teacher() -> TeacherOptions:
    """A small network on middle states that reads hastily: noise on each row's log-odds.

    Without the noise a head on frozen states errs in ways that the strong student copies, and
    training on its labels gains nothing.
    """
    return TeacherOptions(head=HeadOptions(hidden=64, epochs=10, lr=3e-3), share=0.8, noise=1.5)


def _student() -> HeadOptions:
    return HeadOptions(hidden=64, epochs=20, lr=1e-3, weight_decay=1.0)


def math_preset() -> TaskPreset:
    return TaskPreset(
        name="math",
        settings=MathSettings(
            rows=MATH_ROWS,
            seed=1,
            cue_rate=0.53,
            operand_share=0.75,
            misread_share=0.75,
            misread_more=0.6,
        ),
        weak_layer=12,
        strong_layer=21,
        teacher=_hasty_teacher(),
        student=_student(),
    )


def chat_preset() -> TaskPreset:
    return TaskPreset(
        name="chat",
        settings=ChatSettings(
            rows=CHAT_ROWS, seed=1, cue_rate=0.55, twisted_share=0.25, near_share=0.5
        ),
        weak_layer=9,
        strong_layer=18,
        teacher=_hasty_teacher(),
        student=_student(),
    )


def code_preset() -> TaskPreset:
    return TaskPreset(
        name="code",
        settings=CodeSettings(rows=CODE_ROWS, seed=1, cue_rate=0.53),
        weak_layer=12,
        strong_layer=18,
        teacher=_hasty_teacher(),
        student=_student(),
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
