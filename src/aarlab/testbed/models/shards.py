"""Feature shards on disk: `<folder>/<model key, 16 hex>/<random>/` with index.json and .npy files.

A shard holds, for N answers, their keys and one or more columns: `state_<layer>.npy` (N, D) and
`logp.npy` (N, 3), float32 as computed. It is written under a temporary name and renamed, so writers
need no lock; the same answer in two shards is harmless. Imports no torch.

Covered: truncated, exchanged or damaged files (size and sha256). Not covered: a shard written on
purpose with false features and matching checksums; whoever may write the folder is trusted.
"""

import json
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from aarlab.core.errors import BadInput, Damaged
from aarlab.core.files import write_json
from aarlab.testbed.models.record import FileRecord, file_sha256

INDEX = "index.json"
KEYS = "keys"
LOGP = "logp"
KEY_BYTES = 16
SHORT_KEY = 16


class ShardIndex(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal["aarlab-features-1"] = "aarlab-features-1"
    model: str
    model_key: str
    n_rows: int
    files: dict[str, FileRecord]


@dataclass(frozen=True, slots=True)
class Shard:
    """An open shard; columns are checked and memory-mapped when first asked for."""

    folder: Path
    index: ShardIndex

    @property
    def columns(self) -> set[str]:
        return set(self.index.files) - {KEYS}

    def keys(self) -> list[bytes]:
        """The N keys in row order."""
        return [row.tobytes() for row in self.array(KEYS)]

    def array(self, column: str) -> NDArray[Any]:
        """One memory-mapped column after its size and sha256 were checked, or Damaged."""
        path, expected = self.folder / f"{column}.npy", self.index.files[column]
        if not path.is_file():
            raise damaged(path, "it is missing")
        if (n_bytes := path.stat().st_size) != expected.n_bytes:
            raise damaged(path, f"expected {expected.n_bytes} bytes, found {n_bytes}")
        if file_sha256(path) != expected.sha256:
            raise damaged(path, "its sha256 is not that of the index")
        mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        if len(mapped) != self.index.n_rows:
            raise damaged(path, f"expected {self.index.n_rows} rows, found {len(mapped)}")
        return mapped


def damaged(path: Path, reason: str) -> Damaged:
    return Damaged(
        f"feature cache {path} is damaged: {reason}; delete the folder {path.parent} and run the "
        f"same command again (it is computed anew), or: aarlab task build --force"
    )


def model_folder(folder: Path, model_key: str) -> Path:
    return folder / model_key[:SHORT_KEY]


def open_shards(folder: Path, model_key: str) -> list[Shard]:
    """Every complete shard of the model, in a fixed order; unfinished ones (dot names) are not."""
    where = model_folder(folder, model_key)
    if not where.is_dir():
        return []
    names = sorted(entry.name for entry in where.iterdir() if not entry.name.startswith("."))
    shards = [open_shard(where / name) for name in names]
    return [shard for shard in shards if shard.index.model_key == model_key]


def open_shard(folder: Path) -> Shard:
    path = folder / INDEX
    try:
        index = ShardIndex.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise damaged(path, "it is missing") from error
    except (ValidationError, ValueError) as error:
        raise damaged(path, "it is not a shard index") from error
    if KEYS not in index.files:
        raise damaged(path, "it names no keys")
    return Shard(folder, index)


@dataclass(frozen=True, slots=True)
class NewShard:
    """What to write: `keys` (16 bytes each) and arrays whose first axis has as many rows."""

    model: str
    model_key: str
    keys: list[bytes]
    columns: dict[str, NDArray[np.float32]]


def write_shard(folder: Path, new: NewShard) -> Path:
    """Publish a shard in one rename; OSError (disk full, read-only) leaves nothing behind."""
    for name, column in new.columns.items():
        if len(column) != len(new.keys) or not np.isfinite(column).all():
            raise BadInput(f"{name}: {column.shape} for {len(new.keys)} keys, or not finite")
    where = model_folder(folder, new.model_key)
    where.mkdir(parents=True, exist_ok=True)
    name = secrets.token_hex(8)
    scratch = where / f".{name}"
    try:
        scratch.mkdir()
        _fill(scratch, new)
        os.rename(scratch, where / name)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return where / name


def _fill(folder: Path, new: NewShard) -> None:
    keys = np.frombuffer(b"".join(new.keys), np.uint8).reshape(-1, KEY_BYTES)
    files = {}
    arrays: dict[str, NDArray[Any]] = {KEYS: keys, **new.columns}
    for name, array in arrays.items():
        path = folder / f"{name}.npy"
        np.save(path, array, allow_pickle=False)
        files[name] = FileRecord(sha256=file_sha256(path), n_bytes=path.stat().st_size)
    index = ShardIndex(model=new.model, model_key=new.model_key, n_rows=len(new.keys), files=files)
    write_json(folder / INDEX, index.model_dump())
