"""Write to a temporary name, then rename: a reader sees the old file or the new one, never half."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_atomic(
    path: Path,
    data: bytes | str,
    mode: int = 0o644,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Replace `path`; raises OSError (disk full, no permission) and then leaves nothing behind.

    `ready` is called when only the renaming is left: what it raises keeps the old file.
    """
    with _written(path, data, mode) as temporary:
        ready()
        os.replace(temporary, path)


def write_new(path: Path, data: bytes | str, mode: int = 0o644) -> bool:
    """Create `path` whole. Return False, and change nothing, if it is there already."""
    with _written(path, data, mode) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
    return True


@contextmanager
def _written(path: Path, data: bytes | str, mode: int) -> Iterator[Path]:
    """Yield the data under a temporary name next to `path`.

    What is left of it is removed at the end.
    """
    raw = data.encode() if isinstance(data, str) else data
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(raw)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(name, mode)
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def end_of(path: Path, n_bytes: int) -> str:
    """Return the end of a text file, from the start of a line if it can; empty without a file.

    At most `n_bytes` are read, and bytes that are not UTF-8 are replaced.
    """
    try:
        with path.open("rb") as file:
            start = max(file.seek(0, os.SEEK_END) - n_bytes, 0)
            file.seek(start)
            raw = file.read(n_bytes)
    except FileNotFoundError:
        return ""
    lines = raw.partition(b"\n")[2] if start else raw
    return (lines or raw).decode(errors="replace")


def text_in(path: Path) -> str:
    """Return what a text file says, and an empty text where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def write_json(path: Path, value: Any, mode: int = 0o644) -> None:
    write_atomic(
        path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", mode
    )
