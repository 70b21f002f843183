"""Guard baselines: shortcuts that a real method must beat. None looks into the strong model."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aarlab.core.types import Example
from aarlab.testbed.methods.method import Method, guard_method, method_of_recipe
from aarlab.testbed.recipes.recipe import PredictStage, Recipe, TrainStage
from aarlab.testbed.students.options import HeadOptions
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.students.train import Head, fit_head
from aarlab.testbed.tasks.train_task import TrainTask, final_answer

Floats64 = NDArray[np.float64]
LINEAR = HeadOptions(hidden=0, epochs=20, lr=1e-2, weight_decay=0.0)


def guard_majority(task: TrainTask, student: StudentFactory, seed: int) -> "MajorityAnswer":
    """Call the most frequent final answer within a group right; .5 where nothing is more frequent.

    Seen in the study on math: an AAR used it instead of the teacher. Needs the rows of a group at
    once, and several answers to a problem.
    """
    return MajorityAnswer()


class MajorityAnswer:
    """Share of the group's answers that end alike, against the group's mean share."""

    def predict_proba(self, inputs: Sequence[Example]) -> Floats64:
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for example in inputs:
            counts[example.group].update(final_answer(answer) for answer in example.answers)
        return np.array([self._probability(e, counts[e.group]) for e in inputs])

    def _probability(self, example: Example, count: Counter[str]) -> float:
        votes = [count[final_answer(answer)] for answer in example.answers]
        if len(votes) == 2:
            return votes[0] / (votes[0] + votes[1])
        most, total = max(count.values()), sum(count.values())
        if most == 1 or total == most:
            return 0.5
        return 0.9 if votes[0] == most else 0.1


def guard_length(task: TrainTask, student: StudentFactory, seed: int) -> "OnSurface":
    """Fit a logistic regression of the weak labels on the answers' lengths alone.

    The lengths are the logs of the numbers of characters and words.
    """
    options = LINEAR.model_copy(update={"seed": seed})
    return OnSurface(fit_head(_lengths(task.inputs), task.weak_labels_N, options))


@dataclass(frozen=True, slots=True)
class OnSurface:
    """A linear head on length features."""

    head: Head

    def predict_proba(self, inputs: Sequence[Example]) -> Floats64:
        return self.head.predict_proba(_lengths(inputs)).astype(np.float64)


def _lengths(inputs: Sequence[Example]) -> NDArray[np.float32]:
    return np.array(
        [
            [[np.log1p(len(answer)), np.log1p(len(answer.split()))] for answer in example.answers]
            for example in inputs
        ],
        dtype=np.float32,
    )


def guard_tfidf(task: TrainTask, student: StudentFactory, seed: int) -> "TfidfRegression":
    """Fit the hard weak labels by logistic regression on TF-IDF of words and word pairs.

    A preference row is represented by the difference of its answers' vectors.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    vectors = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    vectors.fit([answer for example in task.inputs for answer in example.answers])
    paired = task.kind == "preference"
    model = LogisticRegression(max_iter=1000, fit_intercept=not paired)
    model.fit(_tfidf_rows(vectors, task.inputs), task.weak_labels_N > 0.5)
    return TfidfRegression(vectors, model)


@dataclass(frozen=True, slots=True)
class TfidfRegression:
    """A fitted vectoriser and classifier of scikit-learn."""

    vectors: Any
    model: Any

    def predict_proba(self, inputs: Sequence[Example]) -> Floats64:
        return np.asarray(self.model.predict_proba(_tfidf_rows(self.vectors, inputs))[:, 1])


def _tfidf_rows(vectors: Any, inputs: Sequence[Example]) -> Any:
    first = vectors.transform([example.answers[0] for example in inputs])
    if len(inputs[0].answers) == 1:
        return first
    return first - vectors.transform([example.answers[1] for example in inputs])


def ensemble(members: int = 5) -> Recipe:
    """Train the vanilla ensemble, the mean of `members` students on other seeds. Guard baseline."""
    return Recipe(train=TrainStage(targets="hard"), predict=PredictStage(members=members))


METHODS: tuple[Method, ...] = (
    guard_method(guard_majority),
    guard_method(guard_length),
    guard_method(guard_tfidf),
    method_of_recipe("guard_ensemble", ensemble(), True, ensemble.__doc__ or ""),
)
