"""Frozen features served from disk; the model is loaded only when an answer was never seen.

Content decides: the key of an answer is the SHA-256 of its prompt and text within the folder of one
model (weights, tokenizer, template and context), never a row id or a split, so any subset, order or
new combination of cached answers is served. States are stored as computed: float32, not rounded.
The folder may have a size limit; what this process uses stays. Imports no torch.

Legend: N examples, A answers per example, D state width, I different answers.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import BadInput, NotFound
from aarlab.core.types import Example
from aarlab.testbed.features import AnswerLogp
from aarlab.testbed.models.answers import AnswerItem, AnswerModel, Progress, Wanted
from aarlab.testbed.models.pruning import prune
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
    write_shard,
)
from aarlab.testbed.models.token_states import RowStates, RowTokens, TokenStates

CHUNK = 1024


@dataclass(frozen=True, slots=True)
class Stored:
    """A column of a shard, mapped only while it is read: each open map costs a file handle."""

    shard: Shard
    name: str


Column = NDArray[np.float32] | Stored
Place = tuple[Column, int]


@dataclass(frozen=True, slots=True)
class ModelId:
    """Name for people, `key` (64 hex, see `Compute.model_id`) for the cache; `computed` is kept
    beside new features."""

    name: str
    key: str
    computed: str = field(default="", compare=False)


class FeatureCache:
    """Implements `FeatureSource`. Reads `read_dirs` and `write_dir`; computes what is missing with
    the model that `load` returns, keeping it in memory only when `write_dir` is None. After a
    write the least recently used shards of `write_dir` beyond `limit_bytes` are dropped. `lower`
    are a task's files of lower states."""

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
        """(N, A, D), see FeatureSource. NotFound when answers are missing and there is no model.

        Missing answers are computed on every layer that the cache knows of, in one pass: methods
        that sweep layers ask for them one by one.
        """
        also = self._known_layers() if self._load is not None else []
        if self._missing(examples, [_state_column(layer)]):
            self.precompute(examples, {layer, *also}, logp=False)
        return self._gather(examples, _state_column(layer))

    def answer_logp(self, examples: Sequence[Example]) -> AnswerLogp:
        """See FeatureSource. NotFound when answers are missing and there is no model."""
        self.precompute(examples, (), logp=True)
        logp_NA3 = self._gather(examples, LOGP)
        return AnswerLogp(
            logp_NA3[..., 0], logp_NA3[..., 1], np.rint(logp_NA3[..., 2]).astype(np.int32)
        )

    def layers(self, examples: Sequence[Example]) -> tuple[int, ...]:
        """Layers whose states are cached for every one of these examples, ascending."""
        known = self._known_layers()
        return tuple(n for n in known if not self._missing(examples, [_state_column(n)]))

    def _known_layers(self) -> list[int]:
        """Layers that the cache holds for any answer, ascending."""
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

        `progress(done, total)` counts answers that had to be computed. Every 1,024 answers are
        written as they are ready, so an interrupted call goes on where it was.
        """
        columns = [_state_column(layer) for layer in sorted(set(layers))] + [LOGP] * logp
        missing = self._missing(examples, columns)
        if not missing:
            return
        wanted = Wanted(tuple(sorted(set(layers))), logp)
        model = self._model(len(missing), columns)
        # Answers to one prompt stay together: they share its computation.
        ordered = sorted(missing, key=lambda key: (len(missing[key].prompt), missing[key].prompt))
        for start in range(0, len(ordered), CHUNK):
            part = ordered[start : start + CHUNK]
            self._compute(model, {key: missing[key] for key in part}, wanted)
            if progress is not None:
                progress(start + len(part), len(ordered))

    def _compute(self, model: AnswerModel, items: dict[bytes, AnswerItem], wanted: Wanted) -> None:
        found = model.features(list(items.values()), wanted)
        columns: dict[str, Column] = {
            _state_column(layer): found.states_LID[i] for i, layer in enumerate(wanted.layers)
        }
        if found.logp_I3 is not None:
            columns[LOGP] = found.logp_I3
        self.n_computed += len(items)
        self.n_truncated += found.n_truncated
        if self._write_dir is not None:
            columns = self._written(self._write_dir, list(items), columns)
        for name, array in columns.items():
            places = self._column(name)
            places.update({key: (array, row) for row, key in enumerate(items)})

    def language_model(self) -> Any:
        """The model itself, for students that train it; NotFound where none may be loaded."""
        if self._load is None:
            raise NotFound(f"{self.model.name} may not be loaded here: features only")
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def lower_rows(
        self, items: Sequence[AnswerItem], layer: int
    ) -> Sequence[RowStates | RowTokens]:
        """Whole rows below the blocks that a student trains: states after `layer` blocks, kept
        beside the features, or token ids for layer 0. `cut_rows` are those cut to the context."""
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
        """The same columns, on disk."""
        new = NewShard(self.model.name, self.model.key, keys, columns, self.model.computed)
        shard = write_shard(folder, new)
        self._shards.append(shard)
        if self._limit_bytes is not None:
            prune(folder, self._limit_bytes)
        return {name: Stored(shard, name) for name in columns}

    def _missing(
        self, examples: Sequence[Example], columns: Sequence[str]
    ) -> dict[bytes, AnswerItem]:
        """Different answers that lack one of the columns, by key; what the others need is held."""
        items = {
            item_key(item): item
            for example in examples
            for item in (AnswerItem(example.prompt, answer) for answer in example.answers)
        }
        while True:
            held = [self._column(name) for name in columns]
            if self._hold(place[0] for c in held for k in items if (place := c.get(k))):
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
            # Only columns on disk are read anew: without a folder to write to all are in memory.
            for name, places in self._columns.items():
                kept = {k: p for k, p in places.items() if not _is_in(p[0], gone)}
                self._columns[name] = self._on_disk(name) | kept
        return not gone

    def _column(self, name: str) -> dict[bytes, Place]:
        """Where each cached answer's value of a column lies; opens and checks its files once."""
        if name not in self._columns:
            self._columns[name] = self._on_disk(name)
        return self._columns[name]

    def _on_disk(self, name: str) -> dict[bytes, Place]:
        places: dict[bytes, Place] = {}
        for shard in self._shards:
            if name in shard.columns:
                places.update(_places(shard, name))
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
    """16 bytes of SHA-256; the length of the prompt keeps (ab, c) and (a, bc) apart."""
    prompt = item.prompt.encode()
    text = b"%d\0%b%b" % (len(prompt), prompt, item.answer.encode())
    return hashlib.sha256(text).digest()[:KEY_BYTES]


def cached_models(read_dirs: Sequence[Path]) -> dict[str, ModelId]:
    """Models by name that these folders hold features of, read from the shards alone.

    BadInput when one name stands for two keys: the caller must say which.
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


def _state_column(layer: int) -> str:
    return f"state_{layer}"


def _places(shard: Shard, name: str) -> dict[bytes, Place]:
    column = Stored(shard, name)
    return {key: (column, row) for row, key in enumerate(shard.keys())}


def _is_in(column: Column, folders: set[Path]) -> bool:
    return isinstance(column, Stored) and column.shard.folder in folders


def _rows(places: Sequence[Place]) -> NDArray[np.float32]:
    """One row per place, shard by shard."""
    by_column: dict[int, list[int]] = {}
    for at, (column, _) in enumerate(places):
        by_column.setdefault(id(column), []).append(at)
    out: NDArray[np.float32] | None = None
    for ats in by_column.values():
        column = places[ats[0]][0]
        array = column.shard.array(column.name) if isinstance(column, Stored) else column
        if out is None:
            out = np.empty((len(places), *array.shape[1:]), np.float32)
        out[ats] = array[[places[at][1] for at in ats]]
    assert out is not None
    return out
