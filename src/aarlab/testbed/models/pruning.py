"""The feature cache kept below a size: least recently used shards go, never one in use.

A shard in use is leased (`shards.lease`); one that is being written has a dot name, and only what a
killed writer left behind, an hour old, is taken away. Imports no torch.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from aarlab.core.errors import Damaged
from aarlab.testbed.models.shards import INDEX, open_shard

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
    """Drop the least recently used shards until at most `limit_bytes` are left, if others than
    those in use are enough."""
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
    """Per model, the largest first. Raises Damaged for a shard whose index cannot be read."""
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
