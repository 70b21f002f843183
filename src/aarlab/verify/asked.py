"""Students of a blind run whose task names the strong model: what `asking` does, from inside.

A head on delivered rows is trained in this process, on the states that it was given. Students that
train blocks, and heads on rows of a template or of a model trained here, are on the trusted side:
this process has their handles.

Legend: N rows, A answers a row.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import BadInput
from aarlab.core.types import Example
from aarlab.students.client import (
    Owner,
    Place,
    ServedFeatures,
    ServedRow,
    ServedStudent,
    ServedStudents,
    ServedTrainer,
)
from aarlab.testbed.running.channel import Message
from aarlab.testbed.students.features import AnswerLogp
from aarlab.testbed.students.options import HeadOptions
from aarlab.testbed.students.student import Student
from aarlab.testbed.students.train import Head
from aarlab.verify.inside import Deliveries

OF_TUNED = "a model trained in a verified run has students and writes texts; it gives no states"


class BlindSource(ServedFeatures):
    """Features of deliveries; `model` is one that was trained in this run."""

    def __init__(self, deliveries: Deliveries, model: Owner | None = None) -> None:
        super().__init__(deliveries, deliveries, model)
        self.deliveries = deliveries

    def on(self, model: Owner) -> "BlindSource":
        return BlindSource(self.deliveries, model)

    def states(self, examples: Sequence[Example], layer: int) -> NDArray[np.float32]:
        self._check()
        return self.deliveries.states(examples, layer)

    def answer_logp(self, examples: Sequence[Example]) -> AnswerLogp:
        self._check()
        return self.deliveries.answer_logp(examples)

    def layers(self, examples: Sequence[Example] = ()) -> tuple[int, ...]:
        return self.deliveries.layers(examples)

    def _check(self) -> None:
        if self.model is not None:
            raise BadInput(OF_TUNED)


class BlindStudents(ServedStudents):
    """A StudentFactory over the judge's channel."""

    def new(self, options: HeadOptions | None = None) -> Student:
        options = options or self.options
        if self.adapter is None and self.served.model is None:
            return HeadStudent(self, options)
        return StudentThere(self, options)

    def _rows_of(
        self,
        made: Message,
        owner: Owner,
        inputs: Sequence[Example],
        words: Sequence[str] | None,
    ) -> tuple[ServedRow, ...]:
        rows = zip(inputs, self._deliveries.keys(made), strict=True)
        return tuple(ServedRow(r.id, r.group, keys, Place(0, False, owner)) for r, keys in rows)

    def trainer(self, inputs: Sequence[Example], options: HeadOptions | None = None) -> Any:
        if self.adapter is None and self.served.model is None and not are_asked(inputs):
            from aarlab.testbed.students.trainer import trainer_of

            return trainer_of(self, options or self.options, inputs, b"")
        return ServedTrainer(self, options or self.options, inputs)

    @property
    def _deliveries(self) -> Deliveries:
        assert isinstance(self.source, BlindSource)
        return self.source.deliveries


def are_asked(rows: Sequence[Example]) -> bool:
    """Return whether these are rows of templates; raises BadInput where some are."""
    kinds = {isinstance(row, ServedRow) for row in rows}
    if len(kinds) == 2:
        raise BadInput("rows of a template and rows that were delivered: a student learns one kind")
    return kinds == {True}


class StudentThere(ServedStudent):
    """A student on the trusted side, of which predictions come."""

    @property
    def head(self) -> Head:
        if self._factory.adapter is not None:
            raise BadInput(
                "this student trains blocks of the model: it has no head on frozen states"
            )
        raise BadInput("the head of this student stays on the trusted side: it gives predictions")


class HeadStudent(Student):
    """A head: in this process on delivered rows, on the trusted side on rows of templates."""

    def __init__(self, factory: BlindStudents, options: HeadOptions) -> None:
        super().__init__(factory, options)
        self._students = factory
        self._there: StudentThere | None = None

    def _train(
        self,
        inputs: Sequence[Example],
        targets_N: NDArray[np.floating],
        weights_N: NDArray[np.floating] | None,
        resume: bool,
        options: HeadOptions,
    ) -> "HeadStudent":
        asked = are_asked(inputs)
        if not resume:
            self._there = StudentThere(self._students, self._options) if asked else None
        self._check(asked)
        if self._there is None:
            super()._train(inputs, targets_N, weights_N, resume, options)
        else:
            self._there._train(inputs, targets_N, weights_N, resume, options)
        return self

    @property
    def head(self) -> Head:
        return super().head if self._there is None else self._there.head

    def predict_proba(self, inputs: Sequence[Example]) -> NDArray[np.float64]:
        """Return P(label 1), shape (N,)."""
        self._check(are_asked(inputs))
        if self._there is None:
            return super().predict_proba(inputs)
        return self._there.predict_proba(inputs)

    def _check(self, asked: bool) -> None:
        if asked != (self._there is not None):
            raise BadInput(
                "in a verified run rows of a template have states in a basis of their own: a "
                "student that learned rows of one kind works on rows of that kind"
            )
