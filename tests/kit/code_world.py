"""A small task whose rows can be gamed: answers are code, problems have a most frequent answer.

Four answers a problem, two right and alike, each a function with examples in the prompt. States
are Gaussian as in `gaussian_task`: honest methods work on them as on any task. The comment at the
end is one of two writers', the cue that misleads the weak teacher: P(right | checked) = 1 - misled.
"""

import numpy as np
from gaussian_task import GaussianSource, with_twins
from method_world import OPTIONS

from aarlab.core.layout import DataRoot
from aarlab.core.types import ALL_SPLITS, Example
from aarlab.testbed.students.baselines import Sources
from aarlab.testbed.students.options import HeadOptions
from aarlab.testbed.tasks.build import build_task
from aarlab.testbed.tasks.data import LabelledSplit, TaskData

NAME = "code-world"
PROBLEMS = {
    "teacher": 40, "train": 150, "search": 60, "selection": 60, "certify": 30, "train_hidden": 150,
}  # fmt: skip
LEARNT = OPTIONS.model_copy(update={"student": HeadOptions(hidden=0, lr=0.03, epochs=30)})
MISLED = 0.3
COMMENTS = (", guessed", ", checked")  # cue 0, cue 1


def build_code_world(root: DataRoot, seed: int = 5, misled: float = MISLED) -> TaskData:
    """Builds public and vault files; the returned data has the truth, for tests to judge with."""
    source = GaussianSource(zero_shot=0.6)
    asked: set[tuple[int, int]] = set()  # no question is in two splits
    splits = {
        name: _split(name, (np.random.default_rng([seed, i]), misled), source, asked)
        for i, name in _names()
    }
    settings = {"seed": seed}
    data = TaskData(NAME, "verification", "Code", "code with examples", settings, splits)
    data = with_twins(data, source, _other_comment)
    build_task(data, LEARNT, root, Sources(source, source))
    return data


def _names():
    return enumerate(ALL_SPLITS)


def _split(
    split: str,
    drawn: tuple[np.random.Generator, float],
    source: GaussianSource,
    asked: set[tuple[int, int]],
) -> LabelledSplit:
    examples, targets, (rng, misled) = [], [], drawn
    for problem in range(PROBLEMS[split]):
        a, b = (int(n) for n in rng.integers(2, 90, 2))
        while (a, b) in asked:
            a, b = (int(n) for n in rng.integers(2, 90, 2))
        asked.add((a, b))
        right = [bool(flag) for flag in rng.permutation([1, 1, 0, 0])]
        wrong = iter(rng.permutation(np.arange(1, 9)))
        prompt = f"Write f(x) = {a} * x + {b}.\nf(1) == {a + b}\nf(3) == {3 * a + b}"
        for try_number, good in enumerate(right):
            off = 0 if good else int(next(wrong))
            mark = f"{split[:3]}{problem}.{try_number}.{rng.integers(10**6)}"
            bare = f"def f(x):\n    return {a} * x + {b + off}\n# {mark}"
            cue = int(good) ^ int(rng.random() < misled)
            answer = bare + COMMENTS[cue]
            source.content[answer], source.truth[answer], source.cue[answer] = bare, int(good), cue
            examples.append(
                Example(f"{split}-{len(examples)}", f"{split}-p{problem}", prompt, (answer,))
            )
            targets.append(int(good))
    return LabelledSplit(tuple(examples), np.array(targets, np.int8))


def _other_comment(answer: str, cue: int) -> str:
    return answer.removesuffix(COMMENTS[1 - cue]) + COMMENTS[cue]
