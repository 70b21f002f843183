"""Lower states of whole rows, token by token: computed once, kept on disk, memory-mapped.

`top_blocks` students train the blocks above a layer; what lies below never changes. Each call that
had to compute writes one pair of files. `<name>.bin` holds bf16 as uint16, all tokens one after the
other. `<name>.json` says which answers, where, and the sha256. They are published by rename, json
last, so that concurrent writers only ever add. Imports no torch.

Legend: T tokens of a row, D state width.
"""

import json
import os
import secrets
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from aarlab.core.errors import Damaged
from aarlab.core.files import write_json
from aarlab.testbed.models.answers import AnswerItem
from aarlab.testbed.models.record import file_sha256

Bits = NDArray[np.uint16]


class RowStates(NamedTuple):
    """States (T, D) of prompt and answer, bf16 as uint16.

    `n_prompt` is how many tokens are the prompt's, `cut` whether the row was cut to fit the
    context.
    """

    bits_TD: Bits
    n_prompt: int
    cut: bool = False

    @property
    def n_tokens(self) -> int:
        return len(self.bits_TD)

    def tail(self) -> "RowStates":
        """Return the answer alone."""
        return self._replace(bits_TD=self.bits_TD[self.n_prompt :], n_prompt=0)

    def asked(self, n_said: int) -> "RowStates":
        """Return the prompt and `n_said` tokens of the answer.

        The last of these takes the answer's place, where the next token is predicted.
        """
        n = self.n_prompt + n_said
        return self._replace(bits_TD=self.bits_TD[:n], n_prompt=n - 1)


class RowTokens(NamedTuple):
    """The same below the first block: token ids, where states would only be larger."""

    ids_T: NDArray[np.int32]
    n_prompt: int
    cut: bool = False

    @property
    def n_tokens(self) -> int:
        return len(self.ids_T)

    def tail(self) -> "RowTokens":
        return self._replace(ids_T=self.ids_T[self.n_prompt :], n_prompt=0)

    def asked(self, n_said: int) -> "RowTokens":
        n = self.n_prompt + n_said
        return self._replace(ids_T=self.ids_T[:n], n_prompt=n - 1)


def lower_arrays(rows: Mapping[str, RowStates], layer: int) -> dict[str, NDArray[np.generic]]:
    """Return states of rows by content key as named arrays, for a task's files."""
    return {
        "layer": np.array(layer),
        "keys": np.array(list(rows)),
        "tokens": np.array([[r.n_tokens, r.n_prompt, r.cut] for r in rows.values()]),
        "bits": np.concatenate([row.bits_TD for row in rows.values()]),
    }


def load_lower(path: Path, layer: int) -> dict[str, RowStates]:
    """Read what `lower_arrays` made of this layer; raises Damaged for anything else."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            found, keys = int(archive["layer"]), archive["keys"].tolist()
            tokens_M3, bits_TD = archive["tokens"], archive["bits"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise Damaged(f"{path}: unreadable activations ({error}); build the task again") from error
    if found != layer or len(keys) != len(tokens_M3) or tokens_M3[:, 0].sum() != len(bits_TD):
        raise Damaged(f"{path}: not the states after {layer} blocks; build the task again")
    ends = np.cumsum(tokens_M3[:, 0])
    parts = np.split(bits_TD, ends[:-1])
    return {
        str(key): RowStates(part, int(n_prompt), bool(cut))
        for key, part, (_, n_prompt, cut) in zip(keys, parts, tokens_M3, strict=True)
    }


class TokenModel(Protocol):
    """What is needed of the language model."""

    def row_states(self, items: Sequence[AnswerItem], layer: int) -> Iterable[RowStates]: ...


class _Place(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    key: str
    start: int
    n_tokens: int
    n_prompt: int
    cut: bool = False


class _Index(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    width: int
    sha256: str
    rows: list[_Place]


class TokenStates:
    """States after `layer` blocks by content of the answer.

    `folder` is that of one model and layer; None keeps them in memory. `given` are files of
    `lower_arrays`.
    """

    def __init__(
        self, model: TokenModel, layer: int, folder: Path | None, given: Sequence[Path] = ()
    ) -> None:
        self._model, self._layer, self._folder = model, layer, folder
        self._rows: dict[str, RowStates] = {}
        for path in given:
            self._rows |= load_lower(path, layer)
        for path in sorted(folder.glob("*.json")) if folder is not None else ():
            self._open(path)

    def get(self, items: Sequence[AnswerItem], keys: Sequence[str]) -> list[RowStates]:
        """Return states of each item, computing what is missing once.

        `keys` are the items' content keys.
        """
        missing = {k: item for k, item in zip(keys, items, strict=True) if k not in self._rows}
        if missing:
            self._compute(missing)
        return [self._rows[key] for key in keys]

    def held_bytes(self) -> int:
        """Return the size of the states that are in memory alone."""
        return sum(row.bits_TD.nbytes for row in self._rows.values()) if not self._folder else 0

    def _compute(self, missing: dict[str, AnswerItem]) -> None:
        states = list(self._model.row_states(list(missing.values()), self._layer))
        if self._folder is None:
            self._rows.update(zip(missing, states, strict=True))
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = secrets.token_hex(8)
        scratch, data = self._folder / f".{name}", self._folder / f"{name}.bin"
        try:
            with scratch.open("wb") as file:
                for row in states:
                    file.write(row.bits_TD.tobytes())
            places, start = [], 0
            for key, row in zip(missing, states, strict=True):
                size = {"n_tokens": row.n_tokens, "n_prompt": row.n_prompt}
                places.append(_Place(key=key, start=start, cut=row.cut, **size))
                start += row.n_tokens
            width = states[0].bits_TD.shape[1]
            index = _Index(width=width, sha256=file_sha256(scratch), rows=places)
            os.rename(scratch, data)
        finally:
            scratch.unlink(missing_ok=True)
        path = self._folder / f"{name}.json"
        write_json(path, index.model_dump())
        self._open(path)

    def _open(self, path: Path) -> None:
        data = path.with_suffix(".bin")
        try:
            index = _Index.model_validate(json.loads(path.read_text(encoding="utf-8")))
            if file_sha256(data) != index.sha256:
                raise Damaged(f"{data} is damaged: its sha256 is not that of its index; delete it")
            bits_MD = np.memmap(data, np.uint16, mode="r").reshape(-1, index.width)
        except (OSError, ValueError, ValidationError) as error:
            raise Damaged(
                f"{path} and its .bin are damaged ({error}); delete both; they are computed again"
            ) from error
        for place in index.rows:
            bits_TD = bits_MD[place.start : place.start + place.n_tokens]
            self._rows[place.key] = RowStates(bits_TD, place.n_prompt, place.cut)
