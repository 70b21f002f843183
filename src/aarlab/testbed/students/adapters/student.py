"""A strong student whose blocks are trained.

It has the interface of `Student`, so every recipe and method runs with it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import BadInput
from aarlab.core.types import Example
from aarlab.testbed.models.answers import QUESTIONS, student_items, verdict_row
from aarlab.testbed.models.lm import LanguageModel
from aarlab.testbed.students.adapters.packing import Rows
from aarlab.testbed.students.adapters.tuning import (
    Tuned,
    Tuner,
    copied,
    fresh_blocks,
    label_readout,
    mean_readout,
    predict,
    threads,
    trained_weights,
    tune,
)
from aarlab.testbed.students.options import HeadOptions
from aarlab.testbed.students.student import Student, StudentFactory
from aarlab.testbed.students.train import Head, checked_targets, checked_weights


class AdapterStudent(Student):
    """`fit` starts from the pretrained model, `go_on` from what it has learned."""

    def __init__(self, factory: StudentFactory, options: HeadOptions) -> None:
        super().__init__(factory, options)
        assert factory.adapter is not None
        self._adapter = factory.adapter
        self._model: LanguageModel = factory.language_model()
        self._span = (self._adapter.lowest(factory.layer), factory.layer)
        self._tuned: Tuned | None = None
        if not 0 <= self._span[0] < factory.layer <= self._model.decoder.shape.n_blocks:
            raise BadInput(f"no blocks to train below layer {factory.layer}")

    @property
    def head(self) -> Head:
        raise BadInput("this student trains blocks of the model: it has no head on frozen states")

    def _train(
        self,
        inputs: Sequence[Example],
        targets_N: NDArray[np.floating],
        weights_N: NDArray[np.floating] | None,
        resume: bool,
        options: HeadOptions,
    ) -> "AdapterStudent":
        targets_N = checked_targets(len(inputs), targets_N)
        row_weights_N = checked_weights(len(inputs), weights_N)
        smoothed_N = (1 - options.smoothing) * targets_N + np.float32(options.smoothing / 2)
        start = copied(self.tuned) if resume else None
        with (
            self._factory.counted(rows_trained=len(inputs) * options.epochs),
            threads(self._model.n_threads),
        ):
            rows = self.rows_of(inputs)
            tuner = self.tuner(start or self.fresh(inputs, options.seed))
            self._tuned = tune(tuner, rows, smoothed_N, row_weights_N, options)
        return self

    def predict_proba(self, inputs: Sequence[Example]) -> NDArray[np.float64]:
        """Return P(label 1), shape (N,)."""
        tuner = self.tuner(self.tuned)
        with self._factory.counted(rows_forwarded=len(inputs)), threads(self._model.n_threads):
            return predict(tuner, self.rows_of(inputs))

    def tuner(self, tuned: Tuned) -> Tuner:
        """Return what trains these blocks or predicts with them."""
        model, between = self._model, self._factory.between
        return Tuner(model.decoder, tuned, model.compute, model.n_threads, between)

    @property
    def tuned(self) -> Tuned:
        """Return the trained blocks and readout."""
        if self._tuned is None:
            raise BadInput("this student has not been trained: call fit(inputs, targets) first")
        return self._tuned

    def fresh(self, inputs: Sequence[Example], seed: int) -> Tuned:
        """Return untrained blocks and a readout that standardises by these rows' states."""
        decoder = self._model.decoder
        blocks = fresh_blocks(decoder, self._span, self._adapter, seed)
        if self._adapter.readout == "labels":
            return Tuned(blocks, label_readout(decoder, self._labels(inputs[0])[1]))
        states_NAD = self._factory.source.states(inputs, self._factory.layer)
        return Tuned(blocks, mean_readout(decoder, states_NAD.reshape(-1, states_NAD.shape[-1])))

    def weight_bytes(self) -> int:
        """Return the size of the blocks' trained weights, without training any."""
        blocks = fresh_blocks(self._model.decoder, self._span, self._adapter, 0)
        weights = (weight for block in blocks for weight in trained_weights(block))
        return sum(weight.numel() * weight.element_size() for weight in weights)

    def _labels(self, example: Example) -> tuple[int, tuple[int, int]]:
        """Return how many tokens the two labels begin with alike, and the first that differ.

        They may share tokens because a tokenizer may separate a space from a word.
        """
        words = verdict_row(example, QUESTIONS[0]).answers
        pairs = zip(*(self._model.token_ids(word) for word in words), strict=False)
        for n_alike, (first, second) in enumerate(pairs):
            if first != second:
                return n_alike, (first, second)
        raise BadInput(f"{self._model.record.name} cannot tell the labels {words} apart")

    def rows_of(self, inputs: Sequence[Example]) -> Rows:
        """Return the rows as they lie below the trained blocks; BadInput for mixed kinds."""
        counts = {len(example.answers) for example in inputs}
        if len(counts) != 1:
            raise BadInput(f"expected rows with one number of answers, got {counts or 'none'}")
        items = student_items(inputs, self._adapter)
        lower = self._factory.source.lower_rows(items, self._span[0])  # type: ignore[attr-defined]
        prompts = [item.prompt for item in items]
        if self._adapter.readout == "labels":
            n_said, _ = self._labels(inputs[0])
            rows = Rows([row.asked(n_said) for row in lower], 1, prompts)
        else:
            rows = Rows(lower, counts.pop(), prompts)
        self._factory.compute.rows_cut += rows.n_cut
        return rows
