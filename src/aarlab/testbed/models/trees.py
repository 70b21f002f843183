"""Lays out answers as token trees: a trunk (the prompt) runs once, each answer is a branch of it.

A token sees the trunk and the earlier tokens of its own branch, at the positions it would have if
the answer stood alone after the prompt, so the result is that of one row per answer. No torch here.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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
    """B trees padded to T tokens. For each of the M answer tokens: `rows_M`, `columns_M` its place,
    `before_M` the column of the token that predicts it, `items_M` its item."""

    tokens_BT: Ints
    positions_BT: Ints
    visible_BTT: NDArray[np.bool_]
    rows_M: Ints
    columns_M: Ints
    before_M: Ints
    items_M: Ints


class Layout(NamedTuple):
    """Sizes in tokens. The branches of a tree hold up to `branches`, or its trunk's size (tokens
    of different branches never meet, but attention runs over them); a batch holds up to `batch`."""

    branches: int = 192
    batch: int = 2048


def grow_trees(answers: Iterable[tuple[tuple[int, ...], Branch]], layout: Layout) -> list[Tree]:
    """One tree per trunk, or several when it has many branches."""
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
    """Trees of similar length together, longest first; each batch at most `layout.batch` tokens
    unless one tree is longer."""
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
    """Earlier tokens of the same segment, and the trunk; padding sees padding: no row is empty."""
    same_BTT = segment_BT[:, :, None] == segment_BT[:, None, :]
    trunk_BTT = (segment_BT[:, None, :] == 0) & (segment_BT[:, :, None] != PADDING)
    return np.tril(same_BTT | trunk_BTT)
