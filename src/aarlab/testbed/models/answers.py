"""What passes between the feature cache and a language model. Imports no torch.

Answers are laid out as token trees: a trunk (the prompt) runs once, each answer is a branch of it.
A token sees the trunk and the earlier tokens of its own branch, at the positions it would have if
the answer stood alone after the prompt, so the result is that of one row per answer.

Rows may also be put as a question with two short answers, to a language model and to a student that
trains blocks.

Legend: I items, L layers asked for, D state width.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from aarlab.core.types import Example
from aarlab.testbed.students.options import AdapterOptions

Progress = Callable[[int, int], None]


class AnswerItem(NamedTuple):
    """One answer to one prompt; a preference row holds two."""

    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which features to compute in one pass: states after `layers` blocks, log-likelihoods."""

    layers: tuple[int, ...]
    logp: bool


class AnswerFeatures(NamedTuple):
    """`states_LID` in the order of `Wanted.layers`.

    `logp_I3` holds the natural log of P(answer | prompt), of P(answer), and the number of the
    answer's tokens; None where it was not asked for.
    """

    states_LID: NDArray[np.float32]
    logp_I3: NDArray[np.float32] | None
    n_truncated: int


class AnswerModel(Protocol):
    def features(
        self, items: Sequence[AnswerItem], wanted: Wanted, progress: Callable[[float], None]
    ) -> AnswerFeatures: ...


Ints = NDArray[np.int64]
PADDING = -1


class Branch(NamedTuple):
    """Token ids of one answer; `item` is where its result goes."""

    item: int
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tree:
    trunk: tuple[int, ...]
    branches: tuple[Branch, ...]

    @property
    def n_tokens(self) -> int:
        return len(self.trunk) + sum(len(branch.tokens) for branch in self.branches)


@dataclass(frozen=True, slots=True)
class Batch:
    """B trees padded to T tokens.

    For each of the M answer tokens, `rows_M` and `columns_M` give its place, `before_M` the column
    of the token that predicts it, and `items_M` its item.
    """

    tokens_BT: Ints
    positions_BT: Ints
    visible_BTT: NDArray[np.bool_]
    rows_M: Ints
    columns_M: Ints
    before_M: Ints
    items_M: Ints


class Layout(NamedTuple):
    """Sizes in tokens.

    The branches of a tree hold up to `branches`, or its trunk's size: tokens of different branches
    never meet, but attention runs over them. A batch holds up to `batch`.
    """

    branches: int = 192
    batch: int = 2048


def grow_trees(answers: Iterable[tuple[tuple[int, ...], Branch]], layout: Layout) -> list[Tree]:
    """Grow one tree per trunk, or several when it has many branches."""
    by_trunk: dict[tuple[int, ...], list[Branch]] = {}
    for trunk, branch in answers:
        by_trunk.setdefault(trunk, []).append(branch)
    return [
        Tree(trunk, tuple(part))
        for trunk, branches in by_trunk.items()
        for part in _parts(branches, max(layout.branches, len(trunk)))
    ]


def _parts(branches: Sequence[Branch], room: int) -> Iterator[list[Branch]]:
    part: list[Branch] = []
    used = 0
    for branch in branches:
        if part and used + len(branch.tokens) > room:
            yield part
            part, used = [], 0
        part.append(branch)
        used += len(branch.tokens)
    if part:
        yield part


def batches(trees: Sequence[Tree], layout: Layout) -> Iterator[Batch]:
    """Yield batches of trees of similar length, longest first.

    Each batch has at most `layout.batch` tokens unless one tree is longer.
    """
    ordered = sorted(trees, key=lambda tree: tree.n_tokens, reverse=True)
    while ordered:
        n_trees = max(1, layout.batch // ordered[0].n_tokens)
        yield _packed(ordered[:n_trees])
        ordered = ordered[n_trees:]


def _packed(trees: Sequence[Tree]) -> Batch:
    size = (len(trees), max(tree.n_tokens for tree in trees))
    tokens_BT, positions_BT = np.zeros(size, np.int64), np.zeros(size, np.int64)
    segment_BT = np.full(size, PADDING)
    marks: list[tuple[int, int, int, int]] = []
    for row, tree in enumerate(trees):
        n_trunk = len(tree.trunk)
        tokens_BT[row, :n_trunk], positions_BT[row, :n_trunk] = tree.trunk, np.arange(n_trunk)
        segment_BT[row, :n_trunk] = 0
        start = n_trunk
        for number, branch in enumerate(tree.branches, start=1):
            end = start + len(branch.tokens)
            tokens_BT[row, start:end] = branch.tokens
            positions_BT[row, start:end] = n_trunk + np.arange(end - start)
            segment_BT[row, start:end] = number
            columns = range(start, end)
            before = (n_trunk - 1, *columns[:-1])
            marks += ((row, c, b, branch.item) for c, b in zip(columns, before, strict=True))
            start = end
    marks_M4 = np.array(marks, np.int64).reshape(-1, 4)
    return Batch(tokens_BT, positions_BT, _visible(segment_BT), *marks_M4.T)


def _visible(segment_BT: Ints) -> NDArray[np.bool_]:
    """Return which tokens each token sees: the trunk and earlier tokens of the same segment.

    Padding sees padding, so that no row is empty.
    """
    same_BTT = segment_BT[:, :, None] == segment_BT[:, None, :]
    trunk_BTT = (segment_BT[:, None, :] == 0) & (segment_BT[:, :, None] != PADDING)
    return np.tril(same_BTT | trunk_BTT)


QUESTIONS = ("Is this right?", "Is the answer above correct?", "Would an expert agree?")


def verdict_row(example: Example, question: str, swapped: bool = False) -> Example:
    """Return the row as a question with two short answers, the first for label 1.

    `swapped` turns the order: of the answers A and B, or of the words Yes and No.
    """
    if len(example.answers) == 2:
        first, second = example.answers[::-1] if swapped else example.answers
        words = (" B", " A") if swapped else (" A", " B")
        text = f"{example.prompt}\nA: {first}\nB: {second}\nWhich one is better? {question}"
        return Example(example.id, example.group, text, words)
    order = "(No or Yes)" if swapped else "(Yes or No)"
    text = f"{example.prompt}\n{example.answers[0]}\n{question} {order}"
    return Example(example.id, example.group, text, (" Yes", " No"))


def verdict_template(n_answers: int, question: str, swapped: bool = False) -> str:
    """Return the template of `verdict_row`, without its words.

    Of a row with two answers `swapped` is said with it.
    """
    if n_answers == 2:
        return f"{{prompt}}\nA: {{first}}\nB: {{second}}\nWhich one is better? {question}"
    order = "(No or Yes)" if swapped else "(Yes or No)"
    return f"{{prompt}}\n{{answer}}\n{question} {order}"


def student_items(examples: Sequence[Example], adapter: AdapterOptions) -> list[AnswerItem]:
    """Return the texts that go through the model.

    They are each answer after its prompt, or each row as a question with the first of its two
    labels.
    """
    if adapter.readout == "labels":
        asked = [verdict_row(example, QUESTIONS[0]) for example in examples]
        return [AnswerItem(row.prompt, row.answers[0]) for row in asked]
    return [AnswerItem(example.prompt, a) for example in examples for a in example.answers]
