"""A weak-to-strong task in memory: Gaussian states with a known signal and a spurious cue.

The strong model sees the truth well and the cue hardly; the weak model the other way round, so its
errors are structured. Layer 1 is the weak model's, 2 the strong one's, 3 sees nothing.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from aarlab.core.types import ALL_SPLITS, Example, TaskKind
from aarlab.testbed.students.features import AnswerLogp
from aarlab.testbed.tasks.data import LabelledSplit, TaskData, Twins

WIDTH = 16
WEAK, STRONG, BLIND = 1, 2, 3
SIZES = {
    "teacher": 160, "train": 320, "search": 240, "selection": 240, "certify": 120,
    "train_hidden": 320,
}  # fmt: skip
# strength of truth and of cue in the states, per layer
STRENGTH = {WEAK: (0.4, 0.5), STRONG: (1.2, 0.2), BLIND: (0.0, 0.0)}


class GaussianSource:
    """A FeatureSource: the states of an answer depend on its own text, truth and cue alone.

    Answers that share a `content` share all but their cue.
    """

    def __init__(self, zero_shot: float = 0.6) -> None:
        self.truth: dict[str, int] = {}
        self.cue: dict[str, int] = {}
        self.content: dict[str, str] = {}
        self.zero_shot = zero_shot

    def states(self, examples: Sequence[Example], layer: int) -> np.ndarray:
        signal, cue = STRENGTH[layer]
        rows = []
        for example in examples:
            for answer in example.answers:
                state = self._noise(example.prompt, answer, layer).normal(size=WIDTH)
                state[0] += signal * (2 * self.truth[answer] - 1)
                state[1] += cue * (2 * self.cue[answer] - 1)
                rows.append(state)
        return np.array(rows, np.float32).reshape(len(examples), -1, WIDTH)

    def answer_logp(self, examples: Sequence[Example]) -> AnswerLogp:
        shape = (len(examples), len(examples[0].answers))
        answers = [answer for example in examples for answer in example.answers]
        alone = np.array([-20 - 5 * self._noise("", a, 7).normal() for a in answers])
        gain = np.array(
            [
                self.zero_shot * (2 * self.truth[a] - 1) + self._noise("", a, 8).normal()
                for a in answers
            ]
        )
        tokens = np.array([10 + int(self._noise("", a, 9).integers(5)) for a in answers], np.int32)
        return AnswerLogp(
            (alone + gain).astype(np.float32).reshape(shape),
            alone.astype(np.float32).reshape(shape),
            tokens.reshape(shape),
        )

    def layers(self, examples: Sequence[Example]) -> tuple[int, ...]:
        return tuple(STRENGTH)

    def _noise(self, prompt: str, answer: str, salt: int) -> np.random.Generator:
        text = prompt + self.content.get(answer, answer)
        digest = hashlib.sha256(f"{salt}:{text}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def make_task(
    kind: TaskKind = "verification", seed: int = 0, zero_shot: float = 0.6
) -> tuple[TaskData, GaussianSource]:
    source, splits = GaussianSource(zero_shot), {}
    for number, split in enumerate(ALL_SPLITS):
        rng = np.random.default_rng([seed, number])
        examples, targets = [], []
        for i in range(SIZES[split]):
            target = int(rng.integers(2))
            example = _example(kind, split, i, (target, rng), source)
            examples.append(example)
            targets.append(target)
        splits[split] = LabelledSplit(tuple(examples), np.array(targets, np.int8))
    return TaskData(
        "gauss", kind, "Gaussian", "known signal", {"seed": seed, "n": 1}, splits
    ), source


def _example(kind, split, i, drawn, source: GaussianSource) -> Example:
    target, rng = drawn
    answers = (f"{split} {i} first {rng.random()}", f"{split} {i} second {rng.random()}")
    for place, answer in enumerate(answers):
        source.truth[answer] = target if place == 0 else 1 - target
        misled = rng.random() < 0.3
        source.cue[answer] = source.truth[answer] ^ int(misled)
    answers = answers if kind == "preference" else answers[:1]
    return Example(f"{split}-{i}", f"{split}-g{i // 2}", f"question {split} {i}", answers)


def with_twins(
    data: TaskData, source: GaussianSource, rewrite: Callable[[str, int], str]
) -> TaskData:
    """Twins of all selection rows: `rewrite(answer, other cue)`; only the cue of its states is
    another, as if it were all that the writer of an answer leaves in them."""
    twins = []
    for row in data.splits["selection"].examples:
        answers = []
        for answer in row.answers:
            cue = 1 - source.cue[answer]
            answers.append(rewrite(answer, cue))
            source.content[answers[-1]] = source.content.get(answer, answer)
            source.truth[answers[-1]], source.cue[answers[-1]] = source.truth[answer], cue
        twins.append(replace(row, answers=tuple(answers)))
    return replace(data, twins=Twins("written by the other writer", tuple(twins)))


def other_hand(answer: str, cue: int) -> str:
    return f"{answer}, by the other hand"
