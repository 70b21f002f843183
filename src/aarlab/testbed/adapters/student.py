"""A strong student whose blocks are trained: the interface of `Student`, so that every recipe and
method runs with it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import BadInput
from aarlab.core.types import Example
from aarlab.testbed.adapters.tuning import Rows, Tuned, Tuner, copied, fresh, predict, threads, tune
from aarlab.testbed.models.answers import AnswerItem
from aarlab.testbed.models.cache import item_key
from aarlab.testbed.models.lm import LanguageModel
from aarlab.testbed.options import HeadOptions
from aarlab.testbed.student import Student, StudentFactory
from aarlab.testbed.train import Head, checked_targets, checked_weights


class AdapterStudent(Student):
    """`fit` starts from the pretrained model, `go_on` from what it has learned."""

    def __init__(self, factory: StudentFactory, options: HeadOptions) -> None:
        super().__init__(factory, options)
        assert factory.adapter is not None
        self._adapter = factory.adapter
        self._model: LanguageModel = factory.language_model()
        self._span = (self._adapter.lowest(factory.layer), factory.layer)
        self._tuned: Tuned | None = None

    @property
    def head(self) -> Head:
        raise BadInput("this student trains blocks of the model: it has no head on frozen states")

    def _train(
        self,
        inputs: Sequence[Example],
        targets_N: NDArray[np.floating],
        weights_N: NDArray[np.floating] | None,
        how: tuple[bool, HeadOptions],
    ) -> "AdapterStudent":
        goes_on, options = how
        targets_N = checked_targets(len(inputs), targets_N)
        row_weights_N = checked_weights(len(inputs), weights_N)
        smoothed_N = (1 - options.smoothing) * targets_N + np.float32(options.smoothing / 2)
        decoder, rows = self._model.decoder, self._rows(inputs)
        if goes_on and self._tuned is None:
            raise BadInput("this student has not been trained: call fit(inputs, targets) first")
        start = copied(self._tuned) if goes_on and self._tuned is not None else None
        tuned = start or fresh(decoder, self._span, self._adapter, options.seed)
        tuner = Tuner(decoder, tuned, micro=options.batch)
        with (
            self._factory.counted(rows_trained=len(inputs) * options.epochs),
            threads(self._model.n_threads),
        ):
            self._tuned = tune(tuner, rows, smoothed_N, row_weights_N, options)
        return self

    def predict_proba(self, inputs: Sequence[Example]) -> NDArray[np.float64]:
        """P(label 1), shape (N,)."""
        if self._tuned is None:
            raise BadInput("this student has not been trained: call fit(inputs, targets) first")
        rows = self._rows(inputs)
        with self._factory.counted(rows_forwarded=len(inputs)), threads(self._model.n_threads):
            return predict(Tuner(self._model.decoder, self._tuned, micro=0), rows)

    def _rows(self, inputs: Sequence[Example]) -> Rows:
        counts = {len(example.answers) for example in inputs}
        if len(counts) != 1:
            raise BadInput(f"expected rows with one number of answers, got {counts or 'none'}")
        items = [AnswerItem(example.prompt, a) for example in inputs for a in example.answers]
        states = self._factory.source.token_states(self._span[0])  # type: ignore[attr-defined]
        keys = [item_key(item).hex() for item in items]
        return Rows(states.get(items, keys), *counts)
