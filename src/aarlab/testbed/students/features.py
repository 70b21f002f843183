"""What a method may ask of a frozen language model: states of a layer and answer log-likelihoods.

Frozen features of a task are on disk: a method runs on them without the model, in milliseconds.
There is one file per split, with one entry per (prompt, answer). Rows delivered alone, shuffled or
with swapped answers find their features too.

Legend: N examples, A answers per example (preference rows 2, verification rows 1), D state width, M
entries.
"""

import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import BadInput, Damaged, NotFound
from aarlab.core.types import Example


class AnswerLogp(NamedTuple):
    """Sums over an answer's tokens, natural log: given the prompt, alone, and how many tokens."""

    given_prompt_NA: NDArray[np.float32]
    alone_NA: NDArray[np.float32]
    tokens_NA: NDArray[np.int32]


class FeatureSource(Protocol):
    """Frozen features of one model; rows seen before come from the cache."""

    def states(self, examples: Sequence[Example], layer: int) -> NDArray[np.float32]:
        """Return the mean state over each answer's tokens after `layer` blocks, shape (N, A, D)."""
        ...

    def answer_logp(self, examples: Sequence[Example]) -> AnswerLogp:
        """Return the zero-shot log-likelihood of each answer with and without its prompt."""
        ...

    def layers(self, examples: Sequence[Example]) -> tuple[int, ...]:
        """Return the layers whose states are available for all of these examples, ascending."""
        ...


class ModelSource(FeatureSource, Protocol):
    """A source that has the model itself (`models.lm.LanguageModel`, which needs torch)."""

    def language_model(self) -> Any: ...

    def lower_rows(self, items: Any, layer: int) -> Any:
        """Return whole rows after `layer` blocks, see `models.cache.FeatureCache`."""
        ...


Arrays = dict[str, NDArray[np.generic]]
LOGP = ("given_prompt", "alone", "tokens")
UNLIKE = "features need at least one row, and rows of one kind"


def feature_arrays(
    source: FeatureSource,
    examples: Sequence[Example],
    layers: Sequence[int],
    zero_shot: bool = True,
) -> Arrays:
    """Return features of some rows as named arrays, one entry per distinct (prompt, answer).

    Without `zero_shot` they are states alone.
    """
    keys = _keys(examples)
    first_M = np.array(sorted({key: at for at, key in reversed(list(enumerate(keys)))}.values()))
    arrays: Arrays = {"keys": np.array([keys[at] for at in first_M])}
    if zero_shot:
        for name, values_NA in zip(LOGP, source.answer_logp(examples), strict=True):
            arrays[name] = values_NA.reshape(-1)[first_M]
    for layer in layers:
        states_NAD = source.states(examples, layer).astype(np.float32)
        arrays[f"states_{layer}"] = states_NAD.reshape(-1, states_NAD.shape[-1])[first_M]
    return arrays


class StoredFeatures:
    """A FeatureSource over feature files.

    Raises NotFound for a row whose features are not there.
    """

    def __init__(self, tables: Sequence[Arrays]) -> None:
        self._tables = tables
        self._places: dict[Example, list[tuple[int, int]]] = {}
        self._place = {
            str(key): (number, row)
            for number, table in enumerate(tables)
            for row, key in enumerate(table["keys"].tolist())
        }

    @classmethod
    def open(cls, paths: Iterable[Path]) -> "StoredFeatures":
        """Open feature files; raises Damaged naming the file that cannot be read."""
        return cls([load_features(path) for path in paths])

    def states(self, examples: Sequence[Example], layer: int) -> NDArray[np.float32]:
        missing = [t for t in self._tables if f"states_{layer}" not in t]
        if missing or not self._tables:
            raise BadInput(f"no states of layer {layer}; stored are layers {list(self.layers())}")
        return self._gather(examples, f"states_{layer}").astype(np.float32, copy=False)

    def answer_logp(self, examples: Sequence[Example]) -> AnswerLogp:
        if not self.has_logp:
            raise NotFound(
                "this task has no log-likelihoods, so no method or recipe with zero-shot scores "
                "runs on it; build it with `log_likelihoods: all` (without --states-only)"
            )
        given_NA, alone_NA, tokens_NA = (self._gather(examples, name) for name in LOGP)
        return AnswerLogp(
            given_NA.astype(np.float32, copy=False),
            alone_NA.astype(np.float32, copy=False),
            tokens_NA.astype(np.int32, copy=False),
        )

    @property
    def has_logp(self) -> bool:
        """Return whether there are log-likelihoods for every row of the files."""
        return all("alone" in table for table in self._tables)

    def layers(self, examples: Sequence[Example] = ()) -> tuple[int, ...]:
        """Return the layers whose states are stored for every row of the files."""
        sets = [{n for n in table if n.startswith("states_")} for table in self._tables]
        shared = set.intersection(*sets) if sets else set()
        return tuple(sorted(int(name.removeprefix("states_")) for name in shared))

    def _gather(self, examples: Sequence[Example], name: str) -> NDArray[np.generic]:
        places_NA2 = [self._places.get(row) or self._find(row) for row in examples]
        if len({len(places_A2) for places_A2 in places_NA2}) != 1:
            raise BadInput(UNLIKE)
        numbers_M, rows_M = np.array(places_NA2).reshape(-1, 2).T
        columns = [table[name] for table in self._tables]
        if len(columns) == 1:
            out = columns[0][rows_M]
        else:
            out = np.empty((len(rows_M), *columns[0].shape[1:]), dtype=columns[0].dtype)
            for number, column in enumerate(columns):
                mine_M = numbers_M == number
                out[mine_M] = column[rows_M[mine_M]]
        shape = (len(examples), len(places_NA2[0]), *columns[0].shape[1:])
        return np.asarray(out.reshape(shape))

    def _find(self, row: Example) -> list[tuple[int, int]]:
        """Return the number of the table and the place in it, for each answer.

        They are kept, because the keys are hashes of the texts and a run asks for the same rows
        again and again.
        """
        try:
            found = [self._place[key] for key in row.keys]
        except KeyError:
            raise NotFound(
                f"no stored features for row {row.id!r}: its prompt or answer is not in this "
                "task's files, and a method run has no model to make them"
            ) from None
        self._places[row] = found
        return found


class WithModel:
    """Stored features first; what they lack comes from a cache that may load the model."""

    def __init__(self, stored: StoredFeatures, cache: ModelSource) -> None:
        self._stored, self._cache = stored, cache

    def states(self, examples: Sequence[Example], layer: int) -> NDArray[np.float32]:
        try:
            return self._stored.states(examples, layer)
        except (NotFound, BadInput):
            return self._cache.states(examples, layer)

    def answer_logp(self, examples: Sequence[Example]) -> AnswerLogp:
        try:
            return self._stored.answer_logp(examples)
        except NotFound:
            return self._cache.answer_logp(examples)

    def language_model(self) -> Any:
        return self._cache.language_model()

    def lower_rows(self, items: Any, layer: int) -> Any:
        return self._cache.lower_rows(items, layer)

    def layers(self, examples: Sequence[Example]) -> tuple[int, ...]:
        return tuple(sorted({*self._stored.layers(), *self._cache.layers(examples)}))


def load_features(path: Path) -> Arrays:
    """Load the arrays of one feature file; a vault file's canary is left out."""
    arrays = load_arrays(path)
    if "keys" not in arrays or len(set(LOGP) & arrays.keys()) not in (0, len(LOGP)):
        raise Damaged(f"{path}: not a feature file; build the task again")
    return arrays


def load_arrays(path: Path) -> Arrays:
    """Load all arrays of a task's file but a canary; raises Damaged when it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files if name != "canary"}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise Damaged(f"{path}: unreadable features ({error}); build the task again") from error


def _keys(examples: Sequence[Example]) -> list[str]:
    """Return one key per answer, row by row; raises BadInput for unequal numbers of answers."""
    keys_NA = [example.keys for example in examples]
    if len({len(keys_A) for keys_A in keys_NA}) != 1:
        raise BadInput(UNLIKE)
    return [key for keys_A in keys_NA for key in keys_A]
