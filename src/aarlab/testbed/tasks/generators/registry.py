"""All generated tasks by name: the built-in ones, and those of installed packages."""

from dataclasses import replace
from typing import Any

from aarlab.core.errors import BadInput
from aarlab.core.layout import EMBEDDED, TASK_GROUP
from aarlab.core.registry import Registry
from aarlab.testbed.tasks.data import TaskData
from aarlab.testbed.tasks.generators.presets import TaskPreset
from aarlab.testbed.tasks.generators.task import GeneratedTask

TASKS: Registry[GeneratedTask[Any]] = Registry(
    what="generated task",
    group=TASK_GROUP,
    expected=GeneratedTask,
    built_in={
        "math": "aarlab.testbed.tasks.generators.math_problems:TASK",
        "chat": "aarlab.testbed.tasks.generators.chat_definitions:TASK",
        "code": "aarlab.testbed.tasks.generators.code_functions:TASK",
    },
    reserved=EMBEDDED,
    listed_by="aarlab task list",
)


def generate(name: str, settings: Any, source: object = None) -> TaskData:
    """Make a task called `name` by the generator whose settings these are.

    `source` is what the generator's `fetch` returned; chat needs a glossary. Raises BadInput for
    settings of no generator.
    """
    for one in TASKS.names():
        task = TASKS.get(one)
        if type(settings) is task.settings:
            return task.generate(name, settings, source)
    raise BadInput(f"{type(settings).__name__} are settings of no generated task")


def preset(name: str, seed: int | None = None) -> TaskPreset:
    """Return the preset of a generated task; another seed makes a task that nobody has seen.

    Raises NotFound naming the tasks there are.
    """
    made = TASKS.get(name).preset()
    if seed is None:
        return made
    return replace(made, settings=replace(made.settings, seed=seed))
