"""Faults in a file that a person wrote, each with its line."""

from collections.abc import Sequence
from dataclasses import dataclass

from aarlab.core.errors import BadInput


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a file. `line` counts from 1, and is 0 if the fault belongs to no line.

    `quotable` says that the line may be shown.
    """

    line: int
    message: str
    quotable: bool = True

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}" if self.line else self.message


class Faulty(BadInput):
    """A file has faults. The message lists all of them, one per line."""

    def __init__(self, where: str, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join([where, *(f"  {fault}" for fault in faults)]))
        self.faults = tuple(faults)
