"""A generated task: is a number even or odd? One statement a row, right or wrong."""

import random
from dataclasses import dataclass, field

from aarlab.core.errors import BadInput
from aarlab.testbed.tasks.generators.assembly import (
    Assembled,
    DraftGroup,
    DraftRow,
    Plan,
    SplitRows,
    assemble,
)
from aarlab.testbed.tasks.generators.presets import TaskPreset
from aarlab.testbed.tasks.generators.task import GeneratedTask

# Two writers. The careful one is right a little more often, which is a shortcut in style.
CAREFUL, SLOPPY = "The number {n} is {word}.", "uh {n} = {word} i guess"


@dataclass(frozen=True, slots=True)
class ParitySettings:
    """Settings of the task; `cue_rate` is P(right | careful writer)."""

    rows: SplitRows = field(default_factory=lambda: SplitRows(400, 600, 300, 300, 200))
    seed: int = 1
    cue_rate: float = 0.55

    def __post_init__(self) -> None:
        if not 0.5 <= self.cue_rate <= 1:
            raise BadInput("parity: cue_rate must lie between 0.5 and 1")


def generate_parity(settings: ParitySettings, name: str, source: object = None) -> Assembled:
    """Make all splits; no number is in two groups, so none is in two splits."""

    def draw(rng: random.Random, targets: list[int]) -> DraftGroup:
        n, rows = rng.randrange(100_000), []
        right, wrong = ("odd", "even") if n % 2 else ("even", "odd")
        for target in targets:
            word = right if target else wrong
            careful = rng.random() < (settings.cue_rate if target else 1 - settings.cue_rate)
            own, other = (CAREFUL, SLOPPY) if careful else (SLOPPY, CAREFUL)
            text, twin = own.format(n=n, word=word), other.format(n=n, word=word)
            rows.append(DraftRow(f"Is {n} even or odd?", (text,), target, (twin,)))
        return DraftGroup((str(n),), tuple(rows))

    return assemble(Plan(name, settings.rows, 1, settings.seed), draw)


TASK = GeneratedTask(
    name="parity",
    kind="verification",
    title="Is the number even or odd?",
    description="Statements about whether a number is even or odd, by two writers.",
    settings=ParitySettings,
    preset=lambda: TaskPreset("parity", ParitySettings(), weak_layer=12, strong_layer=21),
    assemble=generate_parity,
)
