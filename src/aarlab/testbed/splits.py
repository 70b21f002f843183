"""Dealing groups to splits: whole groups, class-balanced, the same for the same seed."""

import random
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import BadInput
from aarlab.core.types import ALL_SPLITS, EVAL_SPLITS, Split
from aarlab.testbed.data import LabelledSplit


@dataclass(frozen=True, slots=True)
class EvalShares:
    """Shares of a test file that go to search, selection and certify; they need not sum to 1."""

    search: float = 0.4
    selection: float = 0.4
    certify: float = 0.2

    def __post_init__(self) -> None:
        if min(self.search, self.selection, self.certify) <= 0:
            raise BadInput("every share of search, selection and certify must be above 0")

    def of(self, split: Split) -> float:
        return {"search": self.search, "selection": self.selection, "certify": self.certify}[split]


def deal_groups(
    groups_N: Sequence[str], targets_N: NDArray[np.int8], shares: EvalShares, seed: int
) -> dict[Split, list[int]]:
    """Row numbers of search, selection and certify; no group is in two of them.

    Large groups are dealt first, each to the split that it leaves closest to its share of both
    classes; ties and equal sizes are broken by the seed. Raises BadInput when a split stays without
    one of the classes.
    """
    rows_of: dict[str, list[int]] = {}
    for row, group in enumerate(groups_N):
        rows_of.setdefault(group, []).append(row)
    order = sorted(rows_of)
    random.Random(f"deal:{seed}").shuffle(order)
    order.sort(key=lambda group: -len(rows_of[group]))
    wanted_2 = np.bincount(targets_N, minlength=2).astype(np.float64)
    total = sum(shares.of(split) for split in EVAL_SPLITS)
    want = {split: wanted_2 * shares.of(split) / total for split in EVAL_SPLITS}
    have = {split: np.zeros(2) for split in EVAL_SPLITS}
    dealt: dict[Split, list[int]] = {split: [] for split in EVAL_SPLITS}
    for group in order:
        adds_2 = np.bincount(targets_N[rows_of[group]], minlength=2)
        best = max(EVAL_SPLITS, key=lambda split: _gain(want[split], have[split], adds_2))
        have[best] += adds_2
        dealt[best].extend(rows_of[group])
    _refuse_one_class(have)
    return {split: sorted(rows) for split, rows in dealt.items()}


def _gain(
    want_2: NDArray[np.float64], have_2: NDArray[np.float64], adds_2: NDArray[np.int64]
) -> float:
    """How much nearer the split comes to its share: squared distance, relative to that share."""
    before, after = want_2 - have_2, want_2 - have_2 - adds_2
    return float(((before**2 - after**2) / np.maximum(want_2, 1e-9)).sum())


def _refuse_one_class(have: Mapping[Split, NDArray[np.float64]]) -> None:
    for split, counts_2 in have.items():
        if counts_2.min() < 1:
            raise BadInput(
                f"split {split} would hold {int(counts_2.sum())} rows of one class: the test file "
                "has too few groups to deal; add rows with other groups"
            )


def check_disjoint(splits: Mapping[Split, LabelledSplit]) -> None:
    """Raise BadInput if an id occurs twice or a group lies in two splits, naming it and where."""
    seen: dict[Hashable, Split] = {}
    for split in (name for name in ALL_SPLITS if name in splits):
        for example in splits[split].examples:
            if ("id", example.id) in seen:
                raise BadInput(
                    f"id {example.id!r} occurs twice, in {seen['id', example.id]} and {split}"
                )
            other = seen.setdefault(("group", example.group), split)
            if other != split:
                raise BadInput(
                    f"group {example.group!r} lies in two splits, {other} and {split} (row "
                    f"{example.id!r}): a problem must be in one split only"
                )
            seen["id", example.id] = split
