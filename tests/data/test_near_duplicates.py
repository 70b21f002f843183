"""Near-copies across splits are found, the training side gives way, and nothing else is lost."""

import random
import time
from dataclasses import replace

import numpy as np
import pytest
from gaussian_task import make_task
from hypothesis import given, settings
from hypothesis import strategies as st

from aarlab.core.errors import BadInput
from aarlab.core.types import Example
from aarlab.testbed.tasks.data import LabelledSplit
from aarlab.testbed.tasks.datasets.card import data_card
from aarlab.testbed.tasks.datasets.near_duplicates import (
    near_duplicates,
    shingles,
    without_near_duplicates,
)

WORDS = [f"word{i}" for i in range(400)]


def text(rng, n=60):
    return " ".join(rng.choice(WORDS) for _ in range(n))


def task(n=30, seed=0):
    """Random texts, no two alike."""
    rng, (data, _) = random.Random(seed), make_task()
    splits = {}
    for split in data.splits:
        rows = tuple(
            Example(f"{split}-{i}", f"{split}-{i}", text(rng), (text(rng, 20),)) for i in range(n)
        )
        splits[split] = LabelledSplit(rows, np.arange(n, dtype=np.int8) % 2)
    return replace(data, splits=splits)


def copied(data, source, target, change):
    """The first row of `target` becomes that of `source`, `change` words swapped at the end."""
    row = data.splits[source].examples[0]
    words = row.prompt.split()
    words[: change or 0] = ["new"] * change
    rows = data.splits[target].examples
    new = replace(rows[0], prompt=" ".join(words), answers=row.answers)
    labelled = replace(data.splits[target], examples=(new, *rows[1:]))
    return replace(data, splits={**data.splits, target: labelled})


@pytest.mark.parametrize(("source", "target", "loser"), [
    ("train", "search", "train"),
    ("search", "selection", "search"),
    ("teacher", "train", "teacher"),
    ("train", "train_hidden", "train"),
    ("train_hidden", "search", "train_hidden"),
])  # fmt: skip
def test_a_near_copy_is_dropped_from_the_side_that_gives_way(source, target, loser):
    data = copied(task(), source, target, change=2)
    (found,) = near_duplicates(data)
    assert found.split == loser and found.jaccard > 0.8
    kept = without_near_duplicates(data, "drop")
    sizes = {split: len(rows.examples) for split, rows in kept.splits.items()}
    assert sizes == {split: 30 - (split == loser) for split in sizes}
    assert kept.settings["near_duplicates"]["dropped"] == {loser: 1}
    rows = kept.splits[loser]
    assert len(rows.targets_N) == len(rows.examples)
    with pytest.raises(BadInput, match="nearly repeat"):
        without_near_duplicates(data, "refuse")
    assert len(without_near_duplicates(data, "keep").splits[loser].examples) == 30


def test_different_texts_and_copies_within_a_split_stay():
    data = task()
    assert near_duplicates(data) == []
    rows = data.splits["train"].examples
    twice = (rows[0], replace(rows[0], id="again"), *rows[2:])
    inside = replace(data.splits["train"], examples=twice)
    assert near_duplicates(replace(data, splits={**data.splits, "train": inside})) == []
    assert near_duplicates(copied(data, "train", "search", change=40)) == []


def test_an_instruction_that_rows_share_makes_no_near_copies():
    """Of 60 words, it would be nine tenths of every row's 5-grams."""
    data, said = task(), text(random.Random(1))
    splits = {
        split: replace(rows, examples=tuple(
            replace(e, prompt=said, answers=(" ".join(e.answers[0].split()[:8]),))
            for e in rows.examples
        ))
        for split, rows in data.splits.items()
    }  # fmt: skip
    data = replace(data, splits=splits)
    assert near_duplicates(data) == []
    (found,) = near_duplicates(copied(data, "train", "search", change=0))
    assert (found.split, found.jaccard) == ("train", 1.0)


@given(st.text(max_size=40), st.text(min_size=1, max_size=40))
@settings(max_examples=60)
def test_any_text_has_shingles(prompt, answer):
    grams = shingles(Example("i", "g", prompt, (answer,)))
    assert len(grams) >= 1 and (np.diff(grams.astype(np.int64)) > 0).all()


def test_thousands_of_rows_take_seconds_not_minutes():
    data, started = task(1200), time.monotonic()
    near_duplicates(data)
    assert time.monotonic() - started < 60  # quadratic would be far above


def test_the_card_names_planted_shortcuts_and_no_rows():
    data = task(60)
    rows = data.splits["search"]
    cued = tuple(
        replace(e, answers=(e.answers[0] + (" gladly certainly" if y else ""),))
        for e, y in zip(rows.examples, rows.targets_N, strict=True)
    )
    data = replace(data, splits={**data.splits, "search": replace(rows, examples=cued)})
    card = data_card(data)
    assert "gladly (+" in card and "| search | 60 | 60 | 0.500 |" in card
    assert not any(e.id in card for s in data.splits.values() for e in s.examples)
