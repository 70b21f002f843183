"""Word problems with several candidate solutions each; is a solution right? (verification rows)

A wrong solution is consistent in itself: it uses a wrong operand or a wrong operation and goes on
from there. Two writers, careful and sloppy, are a spurious cue: P(right | careful) = cue_rate.
"""

import random
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from aarlab.core.errors import BadInput
from aarlab.testbed.generators.assembly import (
    Assembled,
    DraftGroup,
    DraftRow,
    Plan,
    SplitRows,
    assemble,
    write_twin,
)
from aarlab.testbed.generators.math_templates import (
    NAMES,
    TEMPLATES,
    THINGS,
    Operation,
    Step,
    Template,
)

OPERATIONS: tuple[Operation, ...] = ("+", "-", "*")


@dataclass(frozen=True, slots=True)
class MathSettings:
    """`repeat_error` is P(a further wrong solution of a problem repeats an earlier wrong answer).

    `operand_share` of the errors are wrong operands, of which `misread_share` are misread numbers
    (the rest take another quantity of the problem); the others are wrong operations. Beside the
    first misread number, each other one is misread with probability `misread_more`.
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
    """All five splits; every split is balanced and no two groups have the same quantities."""

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
    """Quantities are distinct, and every step of the right solution is above 0."""
    template = rng.choice(TEMPLATES)
    first, second = rng.sample(NAMES, 2)
    words = {"p": first, "q": second, "o": rng.choice(THINGS)}
    while True:
        numbers = {key: rng.randint(*bounds) for key, bounds in template.ranges.items()}
        lines = _work(template.steps, numbers)
        if lines and len(set(numbers.values())) == len(numbers):
            return Problem(template, words, numbers, lines)


def _work(steps: tuple[Step, ...], numbers: dict[str, int]) -> tuple[Line, ...]:
    """The worked lines, or () if a result is not above 0."""
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
    """Lines whose last result differs from the right answer; remembered in `wrong`."""
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
    """One operand of one step becomes another quantity or an earlier result."""
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
