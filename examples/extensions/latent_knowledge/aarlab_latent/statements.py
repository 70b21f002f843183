"""A generated task of the problem: statements that compare two numbers, true or false."""

import random
from dataclasses import dataclass, field

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
from aarlab_latent.problem import PROBLEM

PLAIN, CHATTY = "{a} is {word} than {b}.", "well, {a} is {word} than {b}"


@dataclass(frozen=True, slots=True)
class StatementSettings:
    rows: SplitRows = field(default_factory=lambda: SplitRows(0, 600, 400, 400, 400))
    seed: int = 1


def generate(settings: StatementSettings, name: str, source: object = None) -> Assembled:
    """Make all splits; no pair of numbers is in two groups. No row is for a teacher."""

    def draw(rng: random.Random, targets: list[int]) -> DraftGroup:
        a, b = rng.sample(range(10, 1000), 2)
        right, wrong = ("larger", "smaller") if a > b else ("smaller", "larger")
        rows = []
        for target in targets:
            word = right if target else wrong
            own, other = rng.sample((PLAIN, CHATTY), 2)  # style says nothing
            said = [text.format(a=a, b=b, word=word) for text in (own, other)]
            rows.append(DraftRow(f"Compare {a} and {b}.", (said[0],), target, (said[1],)))
        return DraftGroup((f"{min(a, b)} {max(a, b)}",), tuple(rows))

    return assemble(Plan(name, settings.rows, 1, settings.seed), draw)


TASK = GeneratedTask(
    name="statements",
    kind="verification",
    title="Which number is larger?",
    description="Statements that compare two numbers, by two writers who are right equally often.",
    settings=StatementSettings,
    preset=lambda: TaskPreset("statements", StatementSettings(), weak_layer=12, strong_layer=21),
    assemble=generate,
    problem=PROBLEM.facts,
)
