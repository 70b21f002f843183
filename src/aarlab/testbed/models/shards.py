"""Feature shards on disk: `<folder>/<model key, 16 hex>/<random>/` with index.json and .npy files.

A shard holds, for N answers, their keys and one or more columns: `state_<layer>.npy` (N, D) and
`logp.npy` (N, 3), float32 as computed. It is written under a temporary name and renamed, so writers
need no lock; the same answer in two shards is harmless. Whoever uses a shard holds a lease on it, a
shared lock that keeps `prune` away.

`prune` keeps the cache below a size. The least recently used shards go, never one in use. A shard
that is being written has a dot name. Of those, only what a killed writer left behind at least an
hour ago is removed. Imports no torch.

Covered: truncated, exchanged or damaged files (size and sha256; a file whose inode and change time
are those of its writing is not hashed again). Not covered: a disk that changes bytes by itself, a
shard written on purpose with false features and matching checksums; whoever may write the folder is
trusted.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from aarlab.core.errors import BadInput, Damaged
from aarlab.core.files import write_json
from aarlab.testbed.models.record import FileRecord, describe_file, mismatch

INDEX = "index.json"
KEYS = "keys"
LOGP = "logp"
KEY_BYTES = 16
SHORT_KEY = 16


class ShardIndex(BaseModel):
    """`computed` says in which float type, on what device and with which torch."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal["aarlab-features-1"] = "aarlab-features-1"
    model: str
    model_key: str
    n_rows: int
    files: dict[str, FileRecord]
    computed: str = ""


class Lease:
    """While this object lives, `prune` leaves the shard alone."""

    def __init__(self, handle: int) -> None:
        weakref.finalize(self, os.close, handle)


@dataclass(frozen=True, slots=True)
class Shard:
    """An open shard; a column is checked when first asked for. `lease` is set on a new one."""

    folder: Path
    index: ShardIndex
    lease: Lease | None = None
    _checked: set[str] = field(default_factory=set)

    @property
    def columns(self) -> set[str]:
        return set(self.index.files) - {KEYS}

    def keys(self) -> list[bytes]:
        """Return the N keys in row order; none when the shard was pruned meanwhile."""
        try:
            return [row.tobytes() for row in self.array(KEYS)]
        except (Damaged, FileNotFoundError):
            if self.folder.exists():
                raise
            return []

    def array(self, column: str) -> NDArray[Any]:
        """Return one memory-mapped column after it was checked, or raise Damaged."""
        path = self.folder / f"{column}.npy"
        if column not in self._checked and (reason := mismatch(path, self.index.files[column])):
            raise damaged(path, reason)
        self._checked.add(column)
        mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        if len(mapped) != self.index.n_rows:
            raise damaged(path, f"expected {self.index.n_rows} rows, found {len(mapped)}")
        return mapped


def lease(folder: Path) -> Lease | None:
    """Hold a shard and note that it is used now; None when it is gone, or just going."""
    index = folder / INDEX
    try:
        handle = os.open(index, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        there = index.stat().st_ino == os.fstat(handle).st_ino
    except (BlockingIOError, FileNotFoundError):
        there = False
    if not there:
        os.close(handle)
        return None
    with contextlib.suppress(OSError):  # a cache that may only be read is not pruned either
        os.utime(index)
    return Lease(handle)


def damaged(path: Path, reason: str) -> Damaged:
    return Damaged(
        f"feature cache {path} is damaged: {reason}; delete the folder {path.parent} and run the "
        f"same command again (it is computed again), or: aarlab task build --force"
    )


def model_folder(folder: Path, model_key: str) -> Path:
    return folder / model_key[:SHORT_KEY]


def open_shards(folder: Path, model_key: str) -> list[Shard]:
    """Open every complete shard of the model, in a fixed order; not unfinished ones (dot names)."""
    where = model_folder(folder, model_key)
    if not where.is_dir():
        return []
    names = sorted(entry.name for entry in where.iterdir() if not entry.name.startswith("."))
    shards = [_open_if_there(where / name) for name in names]
    return [shard for shard in shards if shard and shard.index.model_key == model_key]


def _open_if_there(folder: Path) -> Shard | None:
    try:
        return open_shard(folder)
    except Damaged:
        if folder.exists():
            raise
        return None  # pruned since it was listed


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
    computed: str = ""


def write_shard(folder: Path, new: NewShard) -> Shard:
    """Publish a shard in one rename, leased from the start.

    OSError (disk full, read-only) leaves nothing behind.
    """
    for name, column in new.columns.items():
        if len(column) != len(new.keys) or not np.isfinite(column).all():
            raise BadInput(f"{name}: {column.shape} for {len(new.keys)} keys, or not finite")
    where = model_folder(folder, new.model_key)
    where.mkdir(parents=True, exist_ok=True)
    name = secrets.token_hex(8)
    scratch = where / f".{name}"
    try:
        scratch.mkdir()
        index = _fill(scratch, new)
        held = lease(scratch)
        os.rename(scratch, where / name)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return Shard(where / name, index, held)


def _fill(folder: Path, new: NewShard) -> ShardIndex:
    keys = np.frombuffer(b"".join(new.keys), np.uint8).reshape(-1, KEY_BYTES)
    files = {}
    arrays: dict[str, NDArray[Any]] = {KEYS: keys, **new.columns}
    for name, array in arrays.items():
        path = folder / f"{name}.npy"
        np.save(path, array, allow_pickle=False)
        files[name] = describe_file(path)
    index = ShardIndex(
        model=new.model,
        model_key=new.model_key,
        n_rows=len(new.keys),
        files=files,
        computed=new.computed,
    )
    write_json(folder / INDEX, index.model_dump())
    return index


LEFT_BEHIND_S = 3600.0


class Pruned(NamedTuple):
    n_shards: int
    n_bytes: int


class Usage(NamedTuple):
    """What the cache holds of one model; `used` is seconds since the epoch."""

    model: str
    n_shards: int
    n_answers: int
    n_bytes: int
    used: float


class _Found(NamedTuple):
    folder: Path
    used: float
    n_bytes: int


def prune(folder: Path, limit_bytes: int) -> Pruned:
    """Drop the least recently used shards until at most `limit_bytes` are left.

    Shards in use stay, even if the others are not enough.
    """
    for left in _left_behind(folder):
        shutil.rmtree(left, ignore_errors=True)
    found = sorted(_shards(folder), key=lambda shard: shard.used)
    total = sum(shard.n_bytes for shard in found)
    n_shards = n_bytes = 0
    for shard in found:
        if total - n_bytes <= limit_bytes:
            break
        if _dropped(shard.folder):
            n_shards, n_bytes = n_shards + 1, n_bytes + shard.n_bytes
    return Pruned(n_shards, n_bytes)


def usage(folder: Path) -> list[Usage]:
    """Return usage per model, the largest first.

    Raises Damaged for a shard whose index cannot be read.
    """
    models: dict[tuple[str, str], Usage] = {}
    for shard in _shards(folder):
        try:
            index = open_shard(shard.folder).index
        except Damaged:
            if not shard.folder.exists():  # pruned by another process just now
                continue
            raise
        old = models.get((index.model, index.model_key), Usage(index.model, 0, 0, 0, 0.0))
        models[index.model, index.model_key] = Usage(
            index.model,
            old.n_shards + 1,
            old.n_answers + index.n_rows,
            old.n_bytes + shard.n_bytes,
            max(old.used, shard.used),
        )
    return sorted(models.values(), key=lambda one: one.n_bytes, reverse=True)


def _shards(folder: Path) -> Iterator[_Found]:
    for index in folder.glob(f"*/[!.]*/{INDEX}"):
        try:
            n_bytes = sum(path.stat().st_size for path in index.parent.iterdir())
            yield _Found(index.parent, index.stat().st_mtime, n_bytes)
        except FileNotFoundError:  # pruned by another process just now
            continue


def _dropped(folder: Path) -> bool:
    """Delete a shard unless somebody holds it; the rename makes it vanish at once."""
    try:
        handle = os.open(folder / INDEX, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        going = folder.with_name(f".going-{folder.name}")
        os.rename(folder, going)
        shutil.rmtree(going, ignore_errors=True)
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(handle)
    return True


def _left_behind(folder: Path) -> list[Path]:
    before = time.time() - LEFT_BEHIND_S
    found = []
    for path in folder.glob("*/.*/"):
        try:
            if path.stat().st_mtime < before:
                found.append(path)
        except FileNotFoundError:  # its writer has just published it
            continue
    return found
