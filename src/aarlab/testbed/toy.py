"""A weak-to-strong task in memory, made in milliseconds: for checking methods, not for results.

States are Gaussian and depend on an answer's text alone. The strong layers see the truth well and a
spurious cue hardly, the weak one the other way round. Legend: N rows, A answers, D state width.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import BadInput, NotFound
from aarlab.core.types import Example, TaskKind
from aarlab.testbed.features import AnswerLogp
from aarlab.testbed.losses import expit
from aarlab.testbed.student import StudentFactory
from aarlab.testbed.task import TrainTask

WIDTH, PROBLEM_ROWS, MISLED = 16, 4, 0.3
STRONG_LAYER = 3
STRENGTH = {2: (0.8, 0.3), STRONG_LAYER: (1.2, 0.2)}  # of truth and of cue, per layer


@dataclass(frozen=True, slots=True)
class ToySource:
    """A FeatureSource over the toy's own texts; NotFound for any other."""

    truth: dict[str, tuple[int, int]]

    def states(self, examples: Sequence[Example], layer: int) -> NDArray[np.float32]:
        if layer not in STRENGTH:
            raise BadInput(f"no states of layer {layer}; stored are layers {sorted(STRENGTH)}")
        rows = [[self._state(answer, layer) for answer in e.answers] for e in examples]
        return np.array(rows, np.float32)

    def answer_logp(self, examples: Sequence[Example]) -> AnswerLogp:
        shape = (len(examples), len(examples[0].answers))
        answers = [answer for e in examples for answer in e.answers]
        alone = np.array([-20 - 5 * _random(a, 7).normal() for a in answers])
        gain = np.array([0.6 * (2 * self._of(a)[0] - 1) + _random(a, 8).normal() for a in answers])
        tokens = np.array([10 + int(_random(a, 9).integers(5)) for a in answers], np.int32)
        given = (alone + gain).astype(np.float32)
        return AnswerLogp(
            given.reshape(shape), alone.astype(np.float32).reshape(shape), tokens.reshape(shape)
        )

    def layers(self, examples: Sequence[Example]) -> tuple[int, ...]:
        return tuple(STRENGTH)

    def _of(self, answer: str) -> tuple[int, int]:
        if answer not in self.truth:
            raise NotFound(f"no stored features for the answer {answer[:40]!r}: not of this task")
        return self.truth[answer]

    def _state(self, answer: str, layer: int) -> NDArray[np.float64]:
        truth, cue = self._of(answer)
        state = _random(answer, layer).normal(size=WIDTH)
        signal, spurious = STRENGTH[layer]
        state[0] += signal * (2 * truth - 1)
        state[1] += spurious * (2 * cue - 1)
        return state


@dataclass(frozen=True, slots=True)
class Toy:
    """A train task, rows to predict, and what makes students."""

    task: TrainTask
    rows: tuple[Example, ...]
    source: ToySource

    def student(self) -> StudentFactory:
        return StudentFactory(self.source, STRONG_LAYER)


def make_toy(kind: TaskKind, n_train: int = 160, n_rows: int = 48, seed: int = 0) -> Toy:
    """Three noisy weak teachers label the train rows; they lean on the cue."""
    rng, truth = np.random.default_rng(seed), dict[str, tuple[int, int]]()
    examples = [_example(kind, number, rng, truth) for number in range(n_train + n_rows)]
    train, rows = tuple(examples[:n_train]), tuple(examples[n_train:])
    first = np.array([truth[e.answers[0]] for e in train])
    leaning_N = 0.5 * (2 * first[:, 0] - 1) + 0.9 * (2 * first[:, 1] - 1)
    labels_SN = expit(leaning_N + rng.normal(0, 0.6, (3, n_train)))
    task = TrainTask(
        name="toy",
        kind=kind,
        inputs=train,
        weak_labels_N=labels_SN[0],
        groups=tuple(e.group for e in train),
        split_sizes={"train": n_train, "search": n_rows},
        teacher_labels_SN=labels_SN,
    )
    return Toy(task, rows, ToySource(truth))


def _example(
    kind: TaskKind, number: int, rng: np.random.Generator, truth: dict[str, tuple[int, int]]
) -> Example:
    target = int(rng.integers(2))
    answers = tuple(f"answer {number}{letter}, {rng.integers(10**9)}" for letter in "ab")
    for answer, right in zip(answers, (target, 1 - target), strict=True):
        truth[answer] = (right, right ^ int(rng.random() < MISLED))
    shown = answers if kind == "preference" else answers[:1]
    problem = f"problem {number // PROBLEM_ROWS}"
    return Example(f"toy-{number}", problem, f"question {problem}", shown)


def _random(text: str, salt: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{salt}:{text}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))
