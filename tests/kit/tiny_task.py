"""A task on a tiny random language model whose students train its blocks."""

from pathlib import Path

import numpy as np
from tiny_models import save_tiny

from aarlab.core.layout import DataRoot
from aarlab.core.types import ALL_SPLITS, NEEDED_SPLITS, Example
from aarlab.testbed.models.catalogue import add_own
from aarlab.testbed.students.options import AdapterOptions, HeadOptions, TeacherOptions
from aarlab.testbed.tasks.data import LabelledSplit, TaskData
from aarlab.testbed.tasks.options import BuildOptions

SIZES = {
    "teacher": 40, "train": 96, "search": 80, "selection": 80, "certify": 12, "train_hidden": 96,
}  # fmt: skip
HEAD = HeadOptions(hidden=0, epochs=8, lr=2e-2, weight_decay=0.0, batch=8)


FIRST = {split: number for number, split in enumerate((*NEEDED_SPLITS, "test", "train_hidden"))}


def tiny_qwen_pair(root: DataRoot, folder: Path) -> None:
    """Stand-ins of the published pair: the same architectures, random weights."""
    for side, family in (("weak", "qwen2"), ("strong", "qwen3")):
        save_tiny(family, folder / side)
        add_own(root, "models", side, {"folder": str(folder / side), "context": 256})
    add_own(root, "pairs", "tiny-qwen", {"weak": "weak@3", "strong": "strong@3"})


def tiny_pair(root: DataRoot, folder: Path) -> None:
    """A pair `tiny` of one random llama, pulled from a local folder."""
    save_tiny("llama", folder)
    add_own(root, "models", "tiny", {"folder": str(folder), "context": 128})
    add_own(root, "pairs", "tiny", {"weak": "tiny@1", "strong": "tiny@3"})


def word_rows(n: int, split: str, answers: int = 1) -> tuple[tuple[Example, ...], np.ndarray]:
    """A right answer holds a word that a wrong one lacks."""
    rng = np.random.default_rng(list(split.encode()))
    # No question is in two splits.
    first = 1000 * FIRST.get(split, sum(split.encode()) % 97 + len(FIRST))
    targets, made = rng.integers(2, size=n), []
    for i, target in enumerate(targets):
        ends = (" harbour", " total xs") if target else (" total xs", " harbour")
        sums = [f"the sum of {rng.integers(99)} and {rng.integers(99)}" for _ in range(answers)]
        texts = tuple(one + end for one, end in zip(sums, ends, strict=False))
        question = f"What is {first + i // 2}?"
        made.append(Example(f"{split}-{i}", f"{split}-g{i // 2}", question, texts))
    return tuple(made), targets.astype(np.int8)


def tiny_data(name: str = "words") -> TaskData:
    splits = {split: LabelledSplit(*word_rows(SIZES[split], split)) for split in ALL_SPLITS}
    return TaskData(name, "verification", "Words", "one word tells", {}, splits)


def tiny_options(kind: str = "top_blocks") -> BuildOptions:
    """A teacher that reads so hastily that a gap is left."""
    return BuildOptions(
        pair="tiny",
        weak_layer=1,
        strong_layer=3,
        teacher=TeacherOptions(head=HeadOptions(hidden=0, epochs=4), noise=6.0),
        student=HEAD,
        adapter=AdapterOptions(kind=kind, blocks=1, rank=4, alpha=8.0),
        n_public=2,
        n_fresh=2,
        n_weak=4,
        ceiling_seeds=2,
        teacher_row_ceiling=False,
        certify=False,
    )
