"""Templates of word problems: a text, ranges of its quantities, and the steps of the solution."""

from typing import Literal, NamedTuple

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
    "Ana", "Ben", "Carla", "Dmitri", "Elena", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kofi",
    "Lena", "Mira", "Noah", "Olga", "Pablo", "Quinn", "Rosa", "Samir", "Tara", "Uma", "Victor",
)  # fmt: skip
THINGS = (
    "apples", "marbles", "stamps", "pencils", "shells", "coins", "buttons", "cards", "cookies",
    "stickers", "beads", "lemons", "candles", "postcards", "ribbons", "tickets",
)  # fmt: skip

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
