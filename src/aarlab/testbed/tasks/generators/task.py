"""A generated task as one object: its settings, who faces it, and how its rows are made.

A package adds one by an entry point that names such an object:

    [project.entry-points."aarlab.tasks"]
    parity = "my_package.parity:TASK"
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, Generic, TypeVar, cast

from aarlab.core.errors import BadInput
from aarlab.core.ids import checked_name
from aarlab.core.layout import DataRoot
from aarlab.core.problem import WEAK_TO_STRONG, ProblemFacts
from aarlab.core.types import TaskKind
from aarlab.testbed.tasks.data import TaskData, check_disjoint
from aarlab.testbed.tasks.generators.assembly import Assembled
from aarlab.testbed.tasks.generators.presets import TaskPreset

S = TypeVar("S")


def _nothing(root: DataRoot) -> object:
    return None


@dataclass(frozen=True, slots=True)
class GeneratedTask(Generic[S]):
    """One generated task.

    `settings` is a dataclass with a field `seed`, all of whose fields become JSON. `assemble`
    makes the rows and the same selection rows in another style, from settings, task name and what
    `fetch` returned; the same settings give the same rows on every machine. `fetch` gets data that
    the rows are made from, and keeps it in the data root. `problem` is the research problem whose
    task this is.
    """

    name: str
    kind: TaskKind
    title: str
    description: str
    settings: type[S]
    preset: Callable[[], TaskPreset]
    assemble: Callable[[S, str, Any], Assembled]
    fetch: Callable[[DataRoot], object] = _nothing
    problem: ProblemFacts = WEAK_TO_STRONG

    def generate(self, name: str, settings: S, source: object = None) -> TaskData:
        """Make a task called `name`; `source` is what `fetch` returned.

        Raises BadInput when the settings ask for more problems than there are, or are of another
        type.
        """
        checked_name(name, "task")
        if not isinstance(settings, self.settings) or not is_dataclass(settings):
            wanted, given = self.settings.__name__, type(settings).__name__
            raise BadInput(f"{self.name} is made from {wanted}, not from {given}")
        made = self.assemble(settings, name, source)
        check_disjoint(made.splits)
        return TaskData(
            name=name,
            kind=self.kind,
            title=self.title,
            description=self.description,
            settings={"source": "generator", "generator": self.name, **asdict(cast(Any, settings))},
            splits=made.splits,
            twins=made.twins,
            problem=self.problem,
        )
