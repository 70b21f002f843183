"""Appends to `transcript.jsonl`: whole lines, each entry once, a torn last line taken off first."""

import os
from collections.abc import Sequence
from pathlib import Path

from aarlab.core.transcript import TranscriptEntry, read_transcript

BLOCK = 1 << 16


class TranscriptWriter:
    """One per process; `last` is the number of the last whole entry."""

    def __init__(self, path: Path) -> None:
        self._path = path
        repair(path)
        self.last = 0
        for entry in read_transcript(path):
            self.last = entry.seq

    def add(self, entries: Sequence[TranscriptEntry]) -> None:
        """Those that are not there yet; on disk when this returns."""
        fresh = [entry for entry in entries if entry.seq > self.last]
        if not fresh:
            return
        text = "".join(entry.model_dump_json(exclude_defaults=True) + "\n" for entry in fresh)
        handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        with os.fdopen(handle, "wb") as out:
            out.write(text.encode())
            out.flush()
            os.fsync(out.fileno())
        self.last = fresh[-1].seq


def repair(path: Path) -> None:
    """Take off what follows the last end of line."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        size = end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - BLOCK)
            file.seek(start)
            cut = file.read(end - start).rfind(b"\n")
            if cut >= 0:
                end = start + cut + 1
                break
            end = start
        if end < size:
            file.truncate(end)
