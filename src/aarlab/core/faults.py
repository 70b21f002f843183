"""What is wrong with a file that a person wrote: each fault with its line."""

from collections.abc import Sequence
from dataclasses import dataclass

from aarlab.core.errors import BadInput


@dataclass(frozen=True, slots=True)
class Fault:
    """`line` counts from 1; 0 where no line is to blame. `quotable`: the line may be shown."""

    line: int
    message: str
    quotable: bool = True

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}" if self.line else self.message


class Faulty(BadInput):
    """A file with faults; all of them are in the message, one per line."""

    def __init__(self, where: str, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join([where, *(f"  {fault}" for fault in faults)]))
        self.faults = tuple(faults)
