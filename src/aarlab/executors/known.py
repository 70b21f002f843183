"""Executors by name: the built-in ones and those of installed packages."""

from importlib.metadata import EntryPoint
from typing import Any, cast

from aarlab.core.registry import Registry
from aarlab.executors.base import Executor
from aarlab.executors.local import LocalExecutor
from aarlab.executors.slurm import SlurmExecutor


def _class_of(entry: EntryPoint) -> type[Executor]:
    made: Any = entry.load()
    if not (isinstance(made, type) and issubclass(made, Executor)):
        raise TypeError("not a class derived from Executor")
    return made


EXECUTORS: Registry[type] = Registry(
    "executor",
    "aarlab.executors",
    type,
    {"local": LocalExecutor, "slurm": SlurmExecutor},
    load=_class_of,
)


def executor_class(name: str) -> type[Executor]:
    """Return the executor of that name; raises as `Registry.get` does."""
    return cast(type[Executor], EXECUTORS.get(name))
