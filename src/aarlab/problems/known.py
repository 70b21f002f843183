"""Research problems by name: the built-in one and those of installed packages."""

from aarlab.core.registry import Registry
from aarlab.problems.base import Problem

PROBLEMS: Registry[Problem] = Registry(
    what="research problem",
    group="aarlab.problems",
    expected=Problem,  # type: ignore[type-abstract]
    built_in={"weak_to_strong": "aarlab.problems.weak_to_strong.scoring:PROBLEM"},
)
