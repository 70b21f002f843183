"""Fresh strong students, and the frozen knowledge of the strong model, with the compute they cost.

student = factory.new(options); student.fit(task.inputs, weak_labels); student.predict_proba(inputs)

A factory also asks the strong model about new texts of rows, by templates. Methods that leave the
texts to it run the same way where they hold none: on a student server, and in a verified run.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import BadInput, MethodFailed
from aarlab.core.types import Example
from aarlab.testbed.students.features import AnswerLogp, FeatureSource
from aarlab.testbed.students.generation import Texts, one_kind, tuned_source, written
from aarlab.testbed.students.options import (
    AdapterOptions,
    GenerateOptions,
    HeadOptions,
    LmOptions,
)
from aarlab.testbed.students.templates import Template
from aarlab.testbed.students.train import Between, Floats, Head, fit_head, nothing
from aarlab.testbed.tasks.train_task import student_settings

if TYPE_CHECKING:
    from aarlab.core.wire import TaskInfo
    from aarlab.testbed.students.trainer import Trainer


@dataclass(slots=True)
class Compute:
    """What students cost.

    It counts seconds inside fit and predict, rows times epochs trained, and rows forwarded.
    `rows_cut` counts the rows of these calls that were cut to fit the model's context.
    """

    seconds: float = 0.0
    rows_trained: int = 0
    rows_forwarded: int = 0
    rows_cut: int = 0

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(slots=True)
class StudentFactory:
    """Make strong students on one layer of a frozen model.

    They are heads on the states of that layer. With an `adapter`, the model's blocks up to that
    layer are trained as well. `between` is called between the steps of training.
    """

    source: FeatureSource
    layer: int
    options: HeadOptions = field(default_factory=HeadOptions)
    compute: Compute = field(default_factory=Compute)
    adapter: AdapterOptions | None = None
    between: Between = nothing

    def new(self, options: HeadOptions | None = None) -> "Student":
        """Return an untrained student; without options, with the task's default adaptation."""
        if self.adapter is not None:
            from aarlab.testbed.students.adapters.student import AdapterStudent  # loads torch

            return AdapterStudent(self, options or self.options)
        return Student(self, options or self.options)

    def language_model(self) -> Any:
        """Return the strong model; raises MethodFailed in a run with stored features only."""
        load = getattr(self.source, "language_model", None)
        if load is None:
            raise MethodFailed(
                "this run has stored features only, not the model; run it where the model is: "
                "aarlab testbed run"
            )
        return load()

    def states(self, inputs: Sequence[Example]) -> Floats:
        """Return the frozen states (N, A, D) of the strong model."""
        with self.counted(len(inputs)):
            return self.source.states(inputs, self.layer)

    def zero_shot(self, inputs: Sequence[Example]) -> AnswerLogp:
        """Return the log-likelihood of each answer given its prompt and alone.

        They are those of the strong model without any training.
        """
        with self.counted(len(inputs)):
            return self.source.answer_logp(inputs)

    def layers(self, inputs: Sequence[Example]) -> tuple[int, ...]:
        """Return the strong model's layers with states available for these inputs, ascending."""
        return self.source.layers(inputs)

    def ask(
        self,
        inputs: Sequence[Example],
        template: str,
        words: Sequence[str] | None = None,
        swapped: bool = False,
        texts: Sequence[Any] = (),
    ) -> tuple[Example, ...]:
        """Return the rows with another text, see `templates.Template`.

        They are rows like others: they have states and log-likelihoods, and students learn from
        them. `{text}` is that of `texts[0]`, from `generate` for the same rows, `{text2}` that of
        `texts[1]`, up to four. Raises BadInput for a template that these rows cannot fill in.
        """
        asked = Template(template, None if words is None else tuple(words), swapped)
        if not all(isinstance(one, Texts) and len(one.texts) == len(inputs) for one in texts):
            raise BadInput("texts: expected generated texts, one text for each row")
        asked.check(one_kind(inputs), len(texts))
        own = list(zip(*(one.texts for one in texts), strict=True)) if texts else [()] * len(inputs)
        return tuple(asked.fill_all(inputs, own))

    def generate(
        self,
        inputs: Sequence[Example],
        template: str,
        n: int = 1,
        options: GenerateOptions | None = None,
    ) -> list[Any]:
        """Have the strong model continue each row's filled template `n` times.

        Each item of the list has one text for each row, for `ask` and `tuned`.
        """
        asked = Template(template)
        asked.check(one_kind(inputs))
        with self.counted(len(inputs) * n):
            return list(
                written(self.language_model(), inputs, asked, n, options or GenerateOptions())
            )

    def tuned(
        self,
        inputs: Sequence[Example],
        options: LmOptions,
        texts: Any = None,
        weights_N: NDArray[np.floating] | None = None,
    ) -> "StudentFactory":
        """Train the strong model on what follows each row's prompt, and return its students.

        That is the row's answers, or the row's text of `texts`. A row counts with its weight:
        advantages make it a step of policy gradients. This factory's model stays as it was.
        """
        if texts is not None and not isinstance(texts, Texts):
            raise BadInput("texts: expected generated texts, one text for each row")
        with self.counted(rows_trained=len(inputs) * options.epochs):
            source = tuned_source(self.language_model(), inputs, texts, options, weights_N)
        return replace(self, source=source)

    def trainer(self, inputs: Sequence[Example], options: HeadOptions | None = None) -> "Trainer":
        """Return a trainer of fresh weights, moved by gradients that you compute, or at random.

        `inputs` set the standardisation, as the train rows of `fit` do.
        """
        from aarlab.testbed.students.trainer import trainer_of

        return trainer_of(self, options or self.options, inputs, b"")

    def at(self, layer: int) -> "StudentFactory":
        """Return a factory on the states of another layer; compute is counted together."""
        return replace(self, layer=layer)

    @classmethod
    def of_task(cls, source: FeatureSource, info: "TaskInfo") -> "StudentFactory":
        """Return the factory of the students that a task was built for."""
        layer, options, adapter = student_settings(info)
        return cls(source, layer, options, adapter=adapter)

    @contextmanager
    def counted(self, rows_forwarded: int = 0, rows_trained: int = 0) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.compute.seconds += time.perf_counter() - started
        self.compute.rows_forwarded += rows_forwarded
        self.compute.rows_trained += rows_trained


class Student:
    """One strong student.

    `fit` starts again from nothing. `go_on` continues from what the student has learned.
    """

    def __init__(self, factory: StudentFactory, options: HeadOptions) -> None:
        self._factory, self._options = factory, options
        self._head: Head | None = None

    @property
    def options(self) -> HeadOptions:
        return self._options

    def fit(
        self,
        inputs: Sequence[Example],
        targets_N: NDArray[np.floating],
        weights_N: NDArray[np.floating] | None = None,
    ) -> "Student":
        """Train on soft targets (N,) in [0, 1]; raises BadInput on other shapes or values."""
        return self._train(inputs, targets_N, weights_N, False, self._options)

    def go_on(
        self,
        inputs: Sequence[Example],
        targets_N: NDArray[np.floating],
        weights_N: NDArray[np.floating] | None = None,
        options: HeadOptions | None = None,
    ) -> "Student":
        """Train the same student in a second phase, for curricula."""
        return self._train(inputs, targets_N, weights_N, True, options or self._options)

    def _train(
        self,
        inputs: Sequence[Example],
        targets_N: NDArray[np.floating],
        weights_N: NDArray[np.floating] | None,
        resume: bool,
        options: HeadOptions,
    ) -> "Student":
        start = self.head if resume else None
        states_NAD = self._factory.states(inputs)
        with self._factory.counted(rows_trained=len(inputs) * options.epochs):
            between = self._factory.between
            self._head = fit_head(states_NAD, targets_N, options, weights_N, start, between)
        return self

    @property
    def head(self) -> Head:
        if self._head is None:
            raise BadInput("this student has not been trained: call fit(inputs, targets) first")
        return self._head

    def predict_proba(self, inputs: Sequence[Example]) -> NDArray[np.float64]:
        """Return P(label 1), shape (N,)."""
        head, states_NAD = self.head, self._factory.states(inputs)
        with self._factory.counted():
            return head.predict_proba(states_NAD).astype(np.float64)
