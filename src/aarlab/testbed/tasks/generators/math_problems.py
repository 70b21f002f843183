"""Generate verification rows of word problems with several solutions each: whether one is right.

A wrong solution is consistent in itself: it uses a wrong operand or a wrong operation and continues
from there. Two writers, careful and sloppy, are a spurious cue: P(right | careful) = cue_rate.

A template of a problem has a text, ranges of its quantities, and the steps of the solution.
"""

import random
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple

from aarlab.core.errors import BadInput
from aarlab.testbed.tasks.generators.assembly import (
    Assembled,
    DraftGroup,
    DraftRow,
    Plan,
    SplitRows,
    assemble,
    write_twin,
)
from aarlab.testbed.tasks.generators.presets import TaskPreset
from aarlab.testbed.tasks.generators.task import GeneratedTask

Operation = Literal["+", "-", "*"]


class Step(NamedTuple):
    """`left` and `right` name a quantity ("a") or an earlier step ("s1"); `means` says of what."""

    means: str
    left: str
    operation: Operation
    right: str


class Template(NamedTuple):
    key: str
    text: str
    unit: str
    ranges: dict[str, tuple[int, int]]
    steps: tuple[Step, ...]


NAMES = (
    "Ana",
    "Ben",
    "Carla",
    "Dmitri",
    "Elena",
    "Farid",
    "Grace",
    "Hugo",
    "Ines",
    "Jonas",
    "Kofi",
    "Lena",
    "Mira",
    "Noah",
    "Olga",
    "Pablo",
    "Quinn",
    "Rosa",
    "Samir",
    "Tara",
    "Uma",
    "Victor",
)
THINGS = (
    "apples",
    "marbles",
    "stamps",
    "pencils",
    "shells",
    "coins",
    "buttons",
    "cards",
    "cookies",
    "stickers",
    "beads",
    "lemons",
    "candles",
    "postcards",
    "ribbons",
    "tickets",
)

TEMPLATES = (
    Template(
        "gift",
        "{p} has {a} {o}. {q} gives {p} {b} more {o}, and later {p} loses {c} of them. "
        "How many {o} does {p} have now?",
        "{o}",
        {"a": (12, 60), "b": (5, 40), "c": (3, 15)},
        (Step("after the gift", "a", "+", "b"), Step("after the loss", "s1", "-", "c")),
    ),
    Template(
        "boxes",
        "{p} buys {a} boxes of {o}. Each box holds {b} {o}. {p} gives {c} {o} to {q}. "
        "How many {o} does {p} keep?",
        "{o}",
        {"a": (3, 12), "b": (6, 20), "c": (4, 17)},
        (Step("in the boxes", "a", "*", "b"), Step("after giving some away", "s1", "-", "c")),
    ),
    Template(
        "orchard",
        "An orchard has {a} rows of {b} trees, and {c} more trees stand by the gate. "
        "How many trees are there in all?",
        "trees",
        {"a": (4, 15), "b": (5, 18), "c": (3, 30)},
        (Step("in the rows", "a", "*", "b"), Step("with those by the gate", "s1", "+", "c")),
    ),
    Template(
        "wages",
        "{p} earns {a} dollars an hour. {p} works {b} hours on Monday and {c} hours on Tuesday. "
        "How many dollars does {p} earn on the two days?",
        "dollars",
        {"a": (9, 30), "b": (2, 9), "c": (2, 9)},
        (Step("hours worked", "b", "+", "c"), Step("pay for the two days", "a", "*", "s1")),
    ),
    Template(
        "bus",
        "A bus leaves the station with {a} passengers. At the first stop {b} get on and {c} get "
        "off. At the second stop {d} get on. How many passengers are on the bus then?",
        "passengers",
        {"a": (15, 50), "b": (4, 20), "c": (3, 14), "d": (2, 18)},
        (
            Step("after people get on", "a", "+", "b"),
            Step("after people get off", "s1", "-", "c"),
            Step("after the second stop", "s2", "+", "d"),
        ),
    ),
    Template(
        "pages",
        "{p} reads {a} pages on Saturday. On Sunday {p} reads {b} pages more than on Saturday. "
        "How many pages does {p} read on both days together?",
        "pages",
        {"a": (12, 70), "b": (4, 30)},
        (Step("read on Sunday", "a", "+", "b"), Step("on both days", "a", "+", "s1")),
    ),
    Template(
        "stall",
        "{p} sells {a} {o} in the morning and {c} in the afternoon, each for {b} dollars. "
        "How many dollars does {p} take in?",
        "dollars",
        {"a": (8, 40), "b": (2, 9), "c": (5, 30)},
        (Step("sold in the day", "a", "+", "c"), Step("taken in", "s1", "*", "b")),
    ),
    Template(
        "shopping",
        "{p} has {a} dollars and buys {b} {o} at {c} dollars each. "
        "How many dollars does {p} have left?",
        "dollars",
        {"a": (90, 200), "b": (3, 9), "c": (2, 9)},
        (Step("spent", "b", "*", "c"), Step("left over", "a", "-", "s1")),
    ),
    Template(
        "tank",
        "A tank holds {a} litres of water. Every day {b} litres leak out. "
        "How many litres are in the tank after {c} days?",
        "litres",
        {"a": (120, 300), "b": (3, 12), "c": (4, 9)},
        (Step("leaked out", "b", "*", "c"), Step("still in the tank", "a", "-", "s1")),
    ),
    Template(
        "class",
        "A class has {a} girls and {b} boys. Every child brings {c} {o}. "
        "How many {o} do they bring altogether?",
        "{o}",
        {"a": (6, 18), "b": (6, 18), "c": (2, 9)},
        (Step("children in the class", "a", "+", "b"), Step("brought altogether", "s1", "*", "c")),
    ),
    Template(
        "runners",
        "{p} runs {a} km a day for {b} days. {q} runs {c} km a day for {d} days. "
        "How many km do they run together?",
        "km",
        {"a": (3, 14), "b": (3, 9), "c": (3, 14), "d": (3, 9)},
        (
            Step("run by the first", "a", "*", "b"),
            Step("run by the second", "c", "*", "d"),
            Step("run together", "s1", "+", "s2"),
        ),
    ),
    Template(
        "bakery",
        "A baker makes {a} trays of {b} rolls. {c} rolls are sold in the morning and {d} in the "
        "afternoon. How many rolls are left?",
        "rolls",
        {"a": (5, 12), "b": (12, 24), "c": (10, 25), "d": (5, 24)},
        (
            Step("baked", "a", "*", "b"),
            Step("sold in the day", "c", "+", "d"),
            Step("left at the end", "s1", "-", "s2"),
        ),
    ),
)


OPERATIONS: tuple[Operation, ...] = ("+", "-", "*")


@dataclass(frozen=True, slots=True)
class MathSettings:
    """Settings of the math generator.

    `repeat_error` is P(a further wrong solution of a problem repeats an earlier wrong answer).
    `operand_share` of the errors are wrong operands; the others are wrong operations.
    `misread_share` of the wrong operands are misread numbers; the rest take another quantity of the
    problem. After the first misread number, each other one is misread with probability
    `misread_more`.
    """

    rows: SplitRows = field(default_factory=SplitRows)
    candidates: int = 4
    seed: int = 0
    cue_rate: float = 0.58
    operand_share: float = 0.67
    misread_share: float = 0.5
    misread_more: float = 0.0
    repeat_error: float = 0.5

    def __post_init__(self) -> None:
        if self.candidates < 1 or not 0.5 <= self.cue_rate <= 1:
            raise BadInput("math: candidates must be at least 1 and cue_rate between 0.5 and 1")


class Line(NamedTuple):
    """One worked step of a solution."""

    means: str
    left: int
    operation: Operation
    right: int
    result: int


class Problem(NamedTuple):
    template: Template
    words: dict[str, str]
    numbers: dict[str, int]
    solution: tuple[Line, ...]

    @property
    def prompt(self) -> str:
        return self.template.text.format(**self.words, **self.numbers)

    @property
    def unit(self) -> str:
        return self.template.unit.format(**self.words)


def generate_math(settings: MathSettings, name: str = "math") -> Assembled:
    """Make all splits; every split is balanced and no two groups have the same quantities."""

    def draw(rng: random.Random, targets: list[int]) -> DraftGroup:
        return _draw_group(rng, targets, settings)

    return assemble(Plan(name, settings.rows, settings.candidates, settings.seed), draw)


def _draw_group(rng: random.Random, targets: list[int], settings: MathSettings) -> DraftGroup:
    problem = _draw_problem(rng)
    wrong: list[tuple[Line, ...]] = []
    drawn: dict[str, tuple[tuple[Line, ...], bool, int]] = {}
    for target in targets:
        lines = problem.solution if target else _wrong_solution(rng, problem, wrong, settings)
        careful = rng.random() < (settings.cue_rate if target else 1 - settings.cue_rate)
        text = _write(rng, problem, lines, careful)
        while text in drawn:
            text = _write(rng, problem, lines, careful)
        drawn[text] = lines, careful, target
    rows: list[DraftRow] = []
    taken = set(drawn)
    for text, (lines, careful, target) in drawn.items():
        write = partial(_write, problem=problem, lines=lines, careful=not careful)
        twin = write_twin(text, taken, write)
        taken.add(twin)
        rows.append(DraftRow(problem.prompt, (text,), target, (twin,)))
    numbers = " ".join(str(number) for number in problem.numbers.values())
    return DraftGroup((f"{problem.template.key} {numbers}",), tuple(rows))


def _draw_problem(rng: random.Random) -> Problem:
    """Draw a problem with distinct quantities; every step of its right solution is above 0."""
    template = rng.choice(TEMPLATES)
    first, second = rng.sample(NAMES, 2)
    words = {"p": first, "q": second, "o": rng.choice(THINGS)}
    while True:
        numbers = {key: rng.randint(*bounds) for key, bounds in template.ranges.items()}
        lines = _work(template.steps, numbers)
        if lines and len(set(numbers.values())) == len(numbers):
            return Problem(template, words, numbers, lines)


def _work(steps: tuple[Step, ...], numbers: dict[str, int]) -> tuple[Line, ...]:
    """Return the worked lines, or () if a result is not above 0."""
    known, lines = dict(numbers), []
    for index, step in enumerate(steps, start=1):
        line = _line(step.means, known[step.left], step.operation, known[step.right])
        known[f"s{index}"] = line.result
        lines.append(line)
    return tuple(lines) if min(line.result for line in lines) > 0 else ()


def _line(means: str, left: int, operation: Operation, right: int) -> Line:
    result = {"+": left + right, "-": left - right, "*": left * right}[operation]
    return Line(means, left, operation, right, result)


def _wrong_solution(
    rng: random.Random, problem: Problem, wrong: list[tuple[Line, ...]], settings: MathSettings
) -> tuple[Line, ...]:
    """Return lines whose last result differs from the right answer, and add that to `wrong`."""
    if wrong and rng.random() < settings.repeat_error:
        return rng.choice(wrong)
    while True:
        if rng.random() >= settings.operand_share:
            lines = _wrong_operation(rng, problem)
        elif rng.random() < settings.misread_share:
            lines = _misread(rng, problem, settings.misread_more)
        else:
            lines = _wrong_quantity(rng, problem)
        if lines and lines[-1].result != problem.solution[-1].result:
            wrong.append(lines)
            return lines


def _wrong_operation(rng: random.Random, problem: Problem) -> tuple[Line, ...]:
    steps = list(problem.template.steps)
    at = rng.randrange(len(steps))
    other = rng.choice([op for op in OPERATIONS if op != steps[at].operation])
    steps[at] = steps[at]._replace(operation=other)
    return _work(tuple(steps), problem.numbers)


def _misread(rng: random.Random, problem: Problem, more: float) -> tuple[Line, ...]:
    first = rng.choice(list(problem.numbers))
    changed = dict(problem.numbers)
    for key, bounds in problem.template.ranges.items():
        if key == first or rng.random() < more:
            changed[key] = rng.randint(*bounds)
            if changed[key] in problem.numbers.values():
                return ()
    return _work(problem.template.steps, changed)


def _wrong_quantity(rng: random.Random, problem: Problem) -> tuple[Line, ...]:
    """Replace one operand of one step by another quantity or an earlier result."""
    steps = list(problem.template.steps)
    at = rng.randrange(len(steps))
    known = [*problem.numbers, *(f"s{i}" for i in range(1, at + 1))]
    others = [key for key in known if key not in (steps[at].left, steps[at].right)]
    if not others:
        return ()
    taken = rng.choice(others)
    change_left = rng.random() < 0.5
    steps[at] = steps[at]._replace(left=taken) if change_left else steps[at]._replace(right=taken)
    return _work(tuple(steps), problem.numbers)


# ---------------------------------------------------------------- two writers
CAREFUL_STARTS = ("Step by step: ", "Solution: ", "", "")
CAREFUL_STEPS = ("{means}: {sum}.", "{means} is {sum}.", "{means}, {sum}.")
CAREFUL_ENDS = ("", "", " That makes {result} {unit}.")
SLOPPY_STARTS = ("", "easy. ", "ok so ", "just do ", "i think ")
SLOPPY_JOINS = (", then ", "; ", " so ", ", ")


def _write(rng: random.Random, problem: Problem, lines: tuple[Line, ...], careful: bool) -> str:
    return (_write_careful if careful else _write_sloppy)(rng, problem, lines)


def _write_careful(rng: random.Random, problem: Problem, lines: tuple[Line, ...]) -> str:
    start, pattern, parts = rng.choice(CAREFUL_STARTS), rng.choice(CAREFUL_STEPS), []
    for line in lines:
        worked = f"{line.left} {line.operation} {line.right} = {line.result}"
        parts.append(pattern.format(means=line.means.capitalize(), sum=worked))
    result = lines[-1].result
    end = rng.choice(CAREFUL_ENDS).format(result=result, unit=problem.unit)
    return f"{start}{' '.join(parts)}{end}\nAnswer: {result}"


def _write_sloppy(rng: random.Random, problem: Problem, lines: tuple[Line, ...]) -> str:
    sums = [f"{line.left}{line.operation}{line.right}={line.result}" for line in lines]
    start, join = rng.choice(SLOPPY_STARTS), rng.choice(SLOPPY_JOINS)
    return f"{start}{join.join(sums)}{rng.choice(('', '.', ' done'))}\nAnswer: {lines[-1].result}"


def math_preset() -> TaskPreset:
    return TaskPreset(
        name="math",
        settings=MathSettings(
            rows=SplitRows(teacher=400, train=800, search=400, selection=400, certify=300),
            seed=1,
            cue_rate=0.53,
            operand_share=0.75,
            misread_share=0.75,
            misread_more=0.6,
        ),
        weak_layer=12,
        strong_layer=21,
    )


TASK = GeneratedTask(
    name="math",
    kind="verification",
    title="Is the worked solution of a word problem right?",
    description="Word problems of 12 kinds with several worked solutions each by two writers.",
    settings=MathSettings,
    preset=math_preset,
    assemble=lambda settings, name, source: generate_math(settings, name),
)
