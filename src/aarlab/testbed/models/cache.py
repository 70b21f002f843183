"""Frozen features served from disk; the model is loaded only when an answer was never seen.

Content decides: the key of an answer is the SHA-256 of its prompt and text within the folder of one
model (weights, tokenizer, template and context), never a row id or a split. So any subset, order or
new combination of cached answers is served. States are stored as computed: float32, not rounded.
The folder may have a size limit; what this process uses stays. Imports no torch.

Legend: N examples, A answers per example, D state width, I different answers.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import BadInput, NotFound
from aarlab.core.types import Example
from aarlab.testbed.models.answers import AnswerItem, AnswerModel, Progress, Wanted
from aarlab.testbed.models.shards import (
    KEY_BYTES,
    LOGP,
    SHORT_KEY,
    Lease,
    NewShard,
    Shard,
    lease,
    open_shard,
    open_shards,
    prune,
    write_shard,
)
from aarlab.testbed.models.token_states import RowStates, RowTokens, TokenStates
from aarlab.testbed.students.features import AnswerLogp

CHUNK = 1024  # answers of a shard


@dataclass(frozen=True, slots=True)
class Stored:
    """A column of a shard, mapped only while it is read: each open map costs a file handle."""

    shard: Shard
    name: str


Column = NDArray[np.float32] | Stored


class Place(NamedTuple):
    """Where one answer's value of a column lies."""

    column: Column
    row: int


@dataclass(frozen=True, slots=True)
class ModelId:
    """A model's name for people and its `key` (64 hex, see `Compute.model_id`) for the cache.

    `computed` is kept next to new features.
    """

    name: str
    key: str
    computed: str = field(default="", compare=False)


class FeatureCache:
    """Serve cached features and compute missing ones; implements `FeatureSource`.

    Reads `read_dirs` and `write_dir`. What is missing is computed with the model that `load`
    returns, and kept in memory only when `write_dir` is None. After a write the least recently used
    shards of `write_dir` beyond `limit_bytes` are dropped. `lower` are a task's files of lower
    states.
    """

    def __init__(
        self,
        read_dirs: Sequence[Path],
        model: ModelId,
        write_dir: Path | None = None,
        load: Callable[[], AnswerModel] | None = None,
        limit_bytes: int | None = None,
        lower: Sequence[Path] = (),
    ) -> None:
        self.model, self._lower = model, lower
        self._write_dir, self._limit_bytes = write_dir, limit_bytes
        self._leases: dict[Path, Lease] = {}
        self._load = load
        self._loaded: AnswerModel | None = None
        self._columns: dict[str, dict[bytes, Place]] = {}
        self._tokens: dict[int, TokenStates] = {}
        folders = dict.fromkeys([*read_dirs, *([write_dir] if write_dir else [])])
        self._shards = [shard for folder in folders for shard in open_shards(folder, model.key)]
        self.n_computed = 0
        self.n_truncated = 0
        self.cut_rows = set[str]()

    def states(self, examples: Sequence[Example], layer: int) -> NDArray[np.float32]:
        """Return states (N, A, D), see FeatureSource.

        Raises NotFound when answers are missing and there is no model. Missing answers are computed
        on every layer that the cache knows of, in one pass: methods that sweep layers ask for them
        one by one.
        """
        also = self._known_layers() if self._load is not None else []
        if self._missing(examples, [_state_column(layer)]):
            self.precompute(examples, {layer, *also}, logp=False)
        return self._gather(examples, _state_column(layer))

    def answer_logp(self, examples: Sequence[Example]) -> AnswerLogp:
        """Return log-likelihoods of the answers, see FeatureSource.

        Raises NotFound when answers are missing and there is no model.
        """
        self.precompute(examples, (), logp=True)
        logp_NA3 = self._gather(examples, LOGP)
        return AnswerLogp(
            logp_NA3[..., 0], logp_NA3[..., 1], np.rint(logp_NA3[..., 2]).astype(np.int32)
        )

    def layers(self, examples: Sequence[Example]) -> tuple[int, ...]:
        """Return the layers whose states are cached for every one of these examples, ascending."""
        known = self._known_layers()
        return tuple(n for n in known if not self._missing(examples, [_state_column(n)]))

    def held_bytes(self) -> int:
        """Return the size of the features that are in memory alone."""
        columns = {
            id(place.column): place.column
            for places in self._columns.values()
            for place in places.values()
        }
        arrays = sum(c.nbytes for c in columns.values() if not isinstance(c, Stored))
        return arrays + sum(states.held_bytes() for states in self._tokens.values())

    def _known_layers(self) -> list[int]:
        """Return the layers that the cache holds for any answer, ascending."""
        names = {name for shard in self._shards for name in shard.columns} | set(self._columns)
        return sorted(int(name.removeprefix("state_")) for name in names if name != LOGP)

    def has_logp(self, examples: Sequence[Example]) -> bool:
        return not self._missing(examples, [LOGP])

    def precompute(
        self,
        examples: Sequence[Example],
        layers: Collection[int],
        *,
        logp: bool,
        progress: Progress | None = None,
    ) -> None:
        """Make the examples' features available, all layers and log-likelihoods in one pass.

        Of an answer that has some of them, only the others are computed. `progress(done, total)`
        counts answers that had to be computed, a few at a time. Every 1,024 answers are written as
        they are ready, so an interrupted call continues from there.
        """
        columns = [_state_column(layer) for layer in sorted(set(layers))] + [LOGP] * logp
        missing = self._missing(examples, columns)
        if not missing:
            return
        model, done = self._model(len(missing), columns), 0
        for lacking, items in self._by_lacking(missing, columns).items():
            asked = tuple(n for n in sorted(set(layers)) if _state_column(n) in lacking)
            wanted = Wanted(asked, LOGP in lacking)
            # Answers to one prompt stay together: they share its computation.
            keys = sorted(items, key=lambda key: (len(missing[key].prompt), missing[key].prompt))
            for start in range(0, len(keys), CHUNK):
                part = {key: missing[key] for key in keys[start : start + CHUNK]}
                self._compute(model, part, wanted, _onward(progress, done, len(part), len(missing)))
                done += len(part)

    def _by_lacking(
        self, missing: dict[bytes, AnswerItem], columns: Sequence[str]
    ) -> dict[tuple[str, ...], list[bytes]]:
        """Group answers by which of the columns they lack."""
        held = {name: self._column(name) for name in columns}
        groups: dict[tuple[str, ...], list[bytes]] = {}
        for key in missing:
            lacking = tuple(name for name in columns if key not in held[name])
            groups.setdefault(lacking, []).append(key)
        return groups

    def _compute(
        self,
        model: AnswerModel,
        items: dict[bytes, AnswerItem],
        wanted: Wanted,
        progress: Callable[[float], None],
    ) -> None:
        """Compute the answers' features and keep them; `progress` gets the share that is done."""
        made = model.features(list(items.values()), wanted, progress)
        columns: dict[str, Column] = {
            _state_column(layer): made.states_LID[i] for i, layer in enumerate(wanted.layers)
        }
        if made.logp_I3 is not None:
            columns[LOGP] = made.logp_I3
        self.n_computed += len(items)
        self.n_truncated += made.n_truncated
        if self._write_dir is not None:
            columns = self._written(self._write_dir, list(items), columns)
        for name, array in columns.items():
            places = self._column(name)
            places.update({key: Place(array, row) for row, key in enumerate(items)})

    def language_model(self) -> Any:
        """Return the model itself, for students that train it.

        Raises NotFound where none may be loaded.
        """
        if self._load is None:
            raise NotFound(f"{self.model.name} may not be loaded here: features only")
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def lower_rows(
        self, items: Sequence[AnswerItem], layer: int
    ) -> Sequence[RowStates | RowTokens]:
        """Return whole rows below the blocks that a student trains.

        They are states after `layer` blocks, kept next to the features, or token ids for layer 0.
        `cut_rows` are those cut to the context.
        """
        keys = [item_key(item).hex() for item in items]
        rows: Sequence[RowStates | RowTokens]
        if layer:
            rows = self._token_states(layer).get(items, keys)
        else:
            rows = self.language_model().row_tokens(items)
        self.cut_rows.update(key for key, row in zip(keys, rows, strict=True) if row.cut)
        return rows

    def _token_states(self, layer: int) -> TokenStates:
        if layer not in self._tokens:
            folder = None
            if self._write_dir is not None:
                name = f"tokens-{self.model.key[:SHORT_KEY]}-{layer}"
                folder = self._write_dir.parent / "tokens" / name
            model = self.language_model()
            self._tokens[layer] = TokenStates(model, layer, folder, self._lower)
        return self._tokens[layer]

    def _model(self, n_missing: int, columns: Sequence[str]) -> AnswerModel:
        if self._load is None:
            raise NotFound(
                f"{n_missing} answers have no cached {' or '.join(columns)} of {self.model.name}, "
                f"and no model may be loaded here; ask for layers that the cache holds, or build "
                f"the task with these layers: aarlab task build"
            )
        loaded: AnswerModel = self.language_model()
        return loaded

    def _written(
        self, folder: Path, keys: list[bytes], columns: dict[str, Any]
    ) -> dict[str, Column]:
        """Write the columns as a shard and return them as columns on disk."""
        new = NewShard(self.model.name, self.model.key, keys, columns, self.model.computed)
        shard = write_shard(folder, new)
        self._shards.append(shard)
        if self._limit_bytes is not None:
            prune(folder, self._limit_bytes)
        return {name: Stored(shard, name) for name in columns}

    def _missing(
        self, examples: Sequence[Example], columns: Sequence[str]
    ) -> dict[bytes, AnswerItem]:
        """Return the different answers that lack one of the columns, by key.

        The shards of the others are leased.
        """
        items = {
            item_key(item): item
            for example in examples
            for item in (AnswerItem(example.prompt, answer) for answer in example.answers)
        }
        while True:
            held = [self._column(name) for name in columns]
            if self._hold(place.column for c in held for k in items if (place := c.get(k))):
                return {k: item for k, item in items.items() if any(k not in c for c in held)}

    def _hold(self, columns: Iterable[Column]) -> bool:
        """Lease the shards of these columns; False when one was pruned, which is then forgotten."""
        used = {c.shard.folder: c.shard for c in columns if isinstance(c, Stored)}
        gone = set()
        for folder in used.keys() - self._leases.keys():
            if (held := used[folder].lease or lease(folder)) is not None:
                self._leases[folder] = held
            else:
                gone.add(folder)
        if gone:
            self._shards = [shard for shard in self._shards if shard.folder not in gone]
            # Only columns on disk are read again: without a folder to write to all are in memory.
            for name, places in self._columns.items():
                kept = {
                    key: place
                    for key, place in places.items()
                    if not isinstance(place.column, Stored) or place.column.shard.folder not in gone
                }
                self._columns[name] = self._on_disk(name) | kept
        return not gone

    def _column(self, name: str) -> dict[bytes, Place]:
        """Return where each cached answer's value of a column lies.

        Opens and checks the column's files once.
        """
        if name not in self._columns:
            self._columns[name] = self._on_disk(name)
        return self._columns[name]

    def _on_disk(self, name: str) -> dict[bytes, Place]:
        places: dict[bytes, Place] = {}
        for shard in self._shards:
            if name in shard.columns:
                column = Stored(shard, name)
                places.update({key: Place(column, row) for row, key in enumerate(shard.keys())})
        return places

    def _gather(self, examples: Sequence[Example], column: str) -> NDArray[np.float32]:
        n_answers = {len(example.answers) for example in examples}
        if len(n_answers) != 1:
            raise BadInput(f"expected rows with one number of answers, got {n_answers or 'none'}")
        places = self._column(column)
        flat = [
            places[item_key(AnswerItem(example.prompt, answer))]
            for example in examples
            for answer in example.answers
        ]
        return _rows(flat).reshape(len(examples), *n_answers, -1)


def item_key(item: AnswerItem) -> bytes:
    """Return 16 bytes of SHA-256; the length of the prompt keeps (ab, c) and (a, bc) apart."""
    prompt = item.prompt.encode()
    text = b"%d\0%b%b" % (len(prompt), prompt, item.answer.encode())
    return hashlib.sha256(text).digest()[:KEY_BYTES]


def cached_models(read_dirs: Sequence[Path]) -> dict[str, ModelId]:
    """Return models by name that these folders hold features of, read from the shards alone.

    Raises BadInput when one name stands for two keys: the caller must say which.
    """
    found: dict[str, ModelId] = {}
    for folder in read_dirs:
        for path in sorted(folder.glob("*/[!.]*/index.json")):
            index = open_shard(path.parent).index
            model = ModelId(index.model, index.model_key)
            if found.setdefault(index.model, model) != model:
                raise BadInput(
                    f"{folder} holds two versions of {index.model}: {model.key[:12]} and "
                    f"{found[index.model].key[:12]}; delete the older folder"
                )
    return found


def _onward(
    progress: Progress | None, n_before: int, n_now: int, total: int
) -> Callable[[float], None]:
    """Return a callback that reports a share of `n_now` answers as a count out of `total`."""

    def report(share: float) -> None:
        if progress is not None:
            progress(n_before + int(share * n_now), total)

    return report


def _state_column(layer: int) -> str:
    return f"state_{layer}"


def _rows(places: Sequence[Place]) -> NDArray[np.float32]:
    """Gather one row per place, shard by shard."""
    by_column: dict[int, list[int]] = {}
    for at, (column, _) in enumerate(places):
        by_column.setdefault(id(column), []).append(at)
    out: NDArray[np.float32] | None = None
    for ats in by_column.values():
        column = places[ats[0]].column
        array = column.shard.array(column.name) if isinstance(column, Stored) else column
        if out is None:
            out = np.empty((len(places), *array.shape[1:]), np.float32)
        out[ats] = array[[places[at].row for at in ats]]
    assert out is not None
    return out
