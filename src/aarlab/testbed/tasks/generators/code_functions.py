"""Generate verification rows of small list functions: whether the code does what was asked.

A wrong candidate differs in aggregate, map, predicate or a constant. A candidate is right when it
and the asked function agree on 40 inputs, by running both. Two writers are a spurious cue, as in
math.
"""

import random
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

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

N_INPUTS = 40


@dataclass(frozen=True, slots=True)
class CodeSettings:
    """`twice_share` of the wrong candidates are mutated twice.

    `keep_share` of the mutations keep every constant of the request: a language model's likelihood
    notices a number that was not copied far sooner than a wrong operation.
    """

    rows: SplitRows = field(default_factory=SplitRows)
    candidates: int = 2
    seed: int = 0
    cue_rate: float = 0.58
    twice_share: float = 0.5
    keep_share: float = 0.0

    def __post_init__(self) -> None:
        if self.candidates < 1 or not 0.5 <= self.cue_rate <= 1:
            raise BadInput("code: candidates must be at least 1 and cue_rate between 0.5 and 1")


class Choice(NamedTuple):
    """A phrase of the request and the expression for it; {k} is the constant, {x} the element."""

    says: str
    code: str
    constants: tuple[int, int] | None = None


MAPS = {
    "same": Choice("", "{x}"),
    "square": Choice("the squares of", "{x} * {x}"),
    "cube": Choice("the cubes of", "{x} ** 3"),
    "absolute": Choice("the absolute values of", "abs({x})"),
    "negated": Choice("the negated values of", "-{x}"),
    "plus": Choice("{k} plus each of", "{x} + {k}", (2, 9)),
    "times": Choice("{k} times each of", "{x} * {k}", (2, 9)),
    "minus": Choice("{k} less than each of", "{x} - {k}", (2, 9)),
}
PREDICATES = {
    "even": Choice("the even numbers", "{x} % 2 == 0"),
    "odd": Choice("the odd numbers", "{x} % 2 == 1"),
    "positive": Choice("the positive numbers", "{x} > 0"),
    "negative": Choice("the negative numbers", "{x} < 0"),
    "above": Choice("the numbers greater than {k}", "{x} > {k}", (2, 9)),
    "below": Choice("the numbers smaller than {k}", "{x} < {k}", (2, 9)),
    "divisible": Choice("the numbers divisible by {k}", "{x} % {k} == 0", (3, 9)),
    "other": Choice("the numbers other than {k}", "{x} != {k}", (2, 9)),
}


class Aggregate(NamedTuple):
    """How the values are put together: start, the loop's statement, and the one-line form."""

    says: str
    start: str
    loop: str
    short: str


AGGREGATES = {
    "sum": Aggregate("the sum of", "0", "result += {v}", "sum({g})"),
    "product": Aggregate("the product of", "1", "result *= {v}", "math.prod({g})"),
    "largest": Aggregate("the largest of", "0", "result = max(result, {v})", "max([0, *({g})])"),
    "smallest": Aggregate("the smallest of", "0", "result = min(result, {v})", "min([0, *({g})])"),
    "list": Aggregate("a list of", "[]", "result.append({v})", "list({g})"),
    "count": Aggregate("the number of different values among", "set()", "result.add({v})", ""),
}
WITH_ZERO = {"largest": " and 0", "smallest": " and 0"}


@dataclass(frozen=True, slots=True)
class Spec:
    """What a function does; `map_k` and `test_k` are constants (0 where unused)."""

    aggregate: str
    map: str
    map_k: int
    test: str
    test_k: int


def generate_code(settings: CodeSettings, name: str = "code") -> Assembled:
    """Make all splits, balanced; no function is asked for in two groups."""

    def draw(rng: random.Random, targets: list[int]) -> DraftGroup:
        return _draw_group(rng, targets, settings)

    return assemble(Plan(name, settings.rows, settings.candidates, settings.seed), draw)


def _draw_group(rng: random.Random, targets: list[int], settings: CodeSettings) -> DraftGroup:
    asked = _draw_spec(rng)
    drawn: dict[str, tuple[Spec, bool, int]] = {}
    for target in targets:
        spec = asked if target else _mutated(rng, asked, settings)
        careful = rng.random() < (settings.cue_rate if target else 1 - settings.cue_rate)
        while (text := write_function(rng, spec, careful)) in drawn:
            pass
        drawn[text] = spec, careful, target
    rows: list[DraftRow] = []
    taken = set(drawn)
    for text, (spec, careful, target) in drawn.items():
        write = partial(write_function, spec=spec, careful=not careful)
        twin = write_twin(text, taken, write)
        taken.add(twin)
        rows.append(DraftRow(_request(asked), (text,), target, (twin,)))
    return DraftGroup((_outputs_key(asked),), tuple(rows))


def _draw_spec(rng: random.Random) -> Spec:
    map_key, test_key = rng.choice(list(MAPS)), rng.choice(list(PREDICATES))
    return Spec(
        rng.choice(list(AGGREGATES)),
        map_key,
        _constant(rng, MAPS[map_key]),
        test_key,
        _constant(rng, PREDICATES[test_key]),
    )


def _constant(rng: random.Random, choice: Choice) -> int:
    return rng.randint(*choice.constants) if choice.constants else 0


def _mutated(rng: random.Random, asked: Spec, settings: CodeSettings) -> Spec:
    """Return a spec that gives another output on at least one of the inputs."""
    while True:
        spec = _mutate_once(rng, asked, settings.keep_share)
        if rng.random() < settings.twice_share:
            spec = _mutate_once(rng, spec, settings.keep_share)
        if _outputs_key(spec) != _outputs_key(asked):
            return spec


def _mutate_once(rng: random.Random, spec: Spec, keep_share: float) -> Spec:
    other = _draw_spec(rng)
    if rng.random() < keep_share:
        return _mutate_kept(rng, spec, other)
    kind = rng.choice(("aggregate", "map", "predicate", "constant"))
    if kind == "aggregate":
        return replace(spec, aggregate=other.aggregate)
    if kind == "map":
        return replace(spec, map=other.map, map_k=other.map_k)
    if kind == "predicate":
        return replace(spec, test=other.test, test_k=other.test_k)
    return replace(
        spec,
        map_k=_constant(rng, MAPS[spec.map]),
        test_k=_constant(rng, PREDICATES[spec.test]),
    )


def _mutate_kept(rng: random.Random, spec: Spec, other: Spec) -> Spec:
    """Put another aggregate, map or predicate around the same constants."""
    kind = rng.choice(("aggregate", "map", "predicate"))
    if kind == "aggregate":
        return replace(spec, aggregate=other.aggregate)
    if kind == "map" and bool(other.map_k) == bool(spec.map_k):
        return replace(spec, map=other.map)
    if kind == "predicate" and bool(other.test_k) == bool(spec.test_k):
        return replace(spec, test=other.test)
    return spec


def _request(spec: Spec) -> str:
    wanted = " ".join(
        part.format(k=constant)
        for part, constant in (
            (AGGREGATES[spec.aggregate].says, 0),
            (MAPS[spec.map].says, spec.map_k),
            (PREDICATES[spec.test].says, spec.test_k),
        )
        if part
    )
    return f"Write a function that returns {wanted} in xs{WITH_ZERO.get(spec.aggregate, '')}."


# ---------------------------------------------------------------- two writers
def write_function(rng: random.Random, spec: Spec, careful: bool) -> str:
    """Write the function in the style of one of the two writers."""
    value = MAPS[spec.map].code.format(x="{x}", k=spec.map_k)
    test = PREDICATES[spec.test].code.format(x="{x}", k=spec.test_k)
    write = _write_careful if careful else _write_sloppy
    return write(rng, spec.aggregate, value, test)


def _write_careful(rng: random.Random, aggregate: str, value: str, test: str) -> str:
    x = rng.choice(("number", "value", "item"))
    parts = AGGREGATES[aggregate]
    returned = "len(result)" if aggregate == "count" else "result"
    return "\n".join(
        [
            f"def {rng.choice(('solve', 'compute', 'process', 'calculate'))}(xs):",
            f"    result = {parts.start}",
            f"    for {x} in xs:",
            f"        if {test.format(x=x)}:",
            f"            {parts.loop.format(v=value.format(x=x))}",
            f"    return {returned}",
        ]
    )


def _write_sloppy(rng: random.Random, aggregate: str, value: str, test: str) -> str:
    x = rng.choice("abijnvxz")
    items = f"{value.format(x=x)} for {x} in xs if {test.format(x=x)}"
    short = AGGREGATES[aggregate].short
    body = short.format(g=items) if short else f"len({{{items}}})"
    return f"{rng.choice('fgh')} = lambda xs: {body}"


# ---------------------------------------------------------------- truth by running
@lru_cache(maxsize=20_000)
def _outputs_key(spec: Spec) -> str:
    """Return the outputs on the 40 inputs as text, equal for functions that agree on all."""
    return repr(outputs(write_function(random.Random(0), spec, careful=True)))


def outputs(source: str) -> list[object]:
    """Run a generated function on the 40 inputs; only for text that this module has written."""
    scope: dict[str, Any] = {}
    exec(f"import math\n{source}", scope)
    (function,) = (value for key, value in scope.items() if key not in ("math", "__builtins__"))
    return [function(list(xs)) for xs in _inputs()]


@lru_cache(maxsize=1)
def _inputs() -> tuple[tuple[int, ...], ...]:
    rng = random.Random("code inputs")
    return tuple(
        tuple(rng.randint(-20, 20) for _ in range(rng.randint(0, 9))) for _ in range(N_INPUTS)
    )


def code_preset() -> TaskPreset:
    return TaskPreset(
        name="code",
        settings=CodeSettings(
            rows=SplitRows(teacher=500, train=700, search=400, selection=400, certify=300),
            seed=1,
            cue_rate=0.53,
        ),
        weak_layer=12,
        strong_layer=18,
    )


TASK = GeneratedTask(
    name="code",
    kind="verification",
    title="Does the function do what was asked?",
    description="Small Python functions on lists by two writers; right means right on 40 inputs.",
    settings=CodeSettings,
    preset=code_preset,
    assemble=lambda settings, name, source: generate_code(settings, name),
)
