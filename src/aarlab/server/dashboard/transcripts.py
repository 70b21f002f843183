"""Transcripts of any length, read page by page: line offsets are kept, entries are read again.

A file only grows, and its index grows with it by 8 bytes per line. A search reads a bounded part.
"""

import asyncio
import json
import os
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from aarlab.core.errors import Damaged, NotFound
from aarlab.core.ids import NAME
from aarlab.core.layout import RunDir
from aarlab.core.transcript import TranscriptEntry

BLOCK = 1 << 20
SEARCHED = 32 << 20
HITS = 50
TAIL = 1 << 18
KEPT = 256
MAX_LINE = 4 << 20


@dataclass
class Index:
    """`starts[i]` is where line i begins; the last one is the end of the whole lines."""

    path: Path
    starts: "array[int]"
    inode: int = 0

    @property
    def n_lines(self) -> int:
        return len(self.starts) - 1


@dataclass(frozen=True, slots=True)
class Found:
    """Line numbers with a hit. `next_line` is where a further search continues; None at the end."""

    lines: list[int]
    next_line: int | None


class Indexes:
    """The transcripts of one run, the last used ones indexed. Blocking parts run in threads."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._kept: OrderedDict[str, Index] = OrderedDict()
        self._turn = asyncio.Lock()

    def exists(self, aar: str) -> bool:
        return self._path(aar).is_file()

    async def open(self, aar: str) -> Index:
        """Return the index up to the present end. Raises NotFound without a transcript."""
        path = self._path(aar)
        async with self._turn:
            index = self._kept.pop(aar, None) or Index(path, array("q", [0]))
            try:
                await asyncio.to_thread(_extend, index)
            except FileNotFoundError:
                raise NotFound(
                    f"{aar} has no transcript: only language-model AARs write one"
                ) from None
            self._kept[aar] = index
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return index

    async def page(self, aar: str, first: int, count: int) -> tuple[list[TranscriptEntry], int]:
        """Return the entries of the lines from `first` on, and the number of lines."""
        index = await self.open(aar)
        return await asyncio.to_thread(_entries, index, first, count), index.n_lines

    async def lines(self, aar: str, numbers: list[int]) -> list[tuple[int, TranscriptEntry]]:
        index = await self.open(aar)
        read = [(n, await asyncio.to_thread(_entries, index, n, 1)) for n in numbers]
        return [(number, entries[0]) for number, entries in read if entries]

    async def search(self, aar: str, text: str, first: int) -> Found:
        """Return the lines that hold a text, whatever its case (of ASCII letters)."""
        return await asyncio.to_thread(_search, await self.open(aar), text, first)

    async def line_at(self, aar: str, at: str) -> int:
        """Return the first line that is later than a time."""
        return await asyncio.to_thread(_line_at, await self.open(aar), at)

    def last(self, aar: str) -> TranscriptEntry | None:
        """Return the newest whole entry; None if there is none that can be read."""
        return last_entry(self._path(aar))

    def _path(self, aar: str) -> Path:
        if not NAME.fullmatch(aar) or ".." in aar:
            raise NotFound(f"no AAR {aar[:64]!r}")
        return self._run.transcript(aar)


def last_entry(path: Path) -> TranscriptEntry | None:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - TAIL, 0))
            lines = file.read().split(b"\n")[:-1]
    except OSError:
        return None
    for line in reversed(lines):
        try:
            return TranscriptEntry.model_validate_json(line)
        except ValidationError:
            continue
    return None


def _extend(index: Index) -> None:
    with index.path.open("rb") as file:
        status = os.fstat(file.fileno())
        if status.st_ino != index.inode or status.st_size < index.starts[-1]:
            index.starts, index.inode = array("q", [0]), status.st_ino  # another file
        at = index.starts[-1]
        file.seek(at)
        while block := file.read(BLOCK):
            place = block.find(b"\n")
            while place >= 0:
                index.starts.append(at + place + 1)
                place = block.find(b"\n", place + 1)
            at += len(block)


def _entries(index: Index, first: int, count: int) -> list[TranscriptEntry]:
    found = []
    with index.path.open("rb") as file:
        for number in range(max(first, 0), min(first + count, index.n_lines)):
            file.seek(index.starts[number])
            size = index.starts[number + 1] - index.starts[number]
            line = file.read(min(size, MAX_LINE))
            try:
                found.append(TranscriptEntry.model_validate_json(line))
            except ValidationError:
                raise Damaged(f"{index.path}:{number + 1} is not a transcript entry") from None
    return found


def _search(index: Index, text: str, first: int) -> Found:
    """Look for the bytes, then in the entry itself: names of fields are not hits."""
    wanted = json.dumps(text, ensure_ascii=False)[1:-1].encode().lower()
    lines: list[int] = []
    number, read = max(first, 0), 0
    with index.path.open("rb") as file:
        while number < index.n_lines and read < SEARCHED:
            last = max(bisect_right(index.starts, index.starts[number] + BLOCK) - 1, number + 1)
            file.seek(index.starts[number])
            block = file.read(index.starts[last] - index.starts[number])
            read += len(block)
            for hit in _hits(index, number, block.lower(), wanted):
                begin, end = (index.starts[hit + k] - index.starts[number] for k in (0, 1))
                if _holds(block[begin:end], text.lower()):
                    lines.append(hit)
                if len(lines) >= HITS:
                    return Found(lines, hit + 1 if hit + 1 < index.n_lines else None)
            number = last
    return Found(lines, number if number < index.n_lines else None)


def _hits(index: Index, number: int, block: bytes, wanted: bytes) -> Iterator[int]:
    """Yield the lines in which the bytes are, of a block that begins with line `number`."""
    place = block.find(wanted)
    while place >= 0:
        hit = bisect_right(index.starts, index.starts[number] + place) - 1
        yield hit
        place = block.find(wanted, index.starts[hit + 1] - index.starts[number])


def _holds(line: bytes, text: str) -> bool:
    try:
        entry = TranscriptEntry.model_validate_json(line)
    except ValidationError:
        return False
    return text in entry.text.lower() or text in (entry.tool or "").lower()


def _line_at(index: Index, at: str) -> int:
    low, high = 0, index.n_lines
    while low < high:
        middle = (low + high) // 2
        if _entries(index, middle, 1)[0].at <= at:
            low = middle + 1
        else:
            high = middle
    return low
