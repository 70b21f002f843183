"""What the lobby can ask of the floors above and beside it; the command line hands it in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aarlab.core.faults import Fault as Fault


@dataclass(frozen=True, slots=True)
class Checked:
    """A spec that was looked at: faults, or its name and what it would take at most."""

    faults: tuple[Fault, ...] = ()
    name: str = ""
    estimate: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Commands:
    """`presets` are spec texts; `run` and `resume` start a campaign, `serve` its pages alone."""

    presets: Mapping[str, str]
    check: Callable[[str], Checked]
    run: Callable[[Path, Path], Sequence[str]]
    resume: Callable[[Path], Sequence[str]]
    serve: Callable[[Path], Sequence[str]]
