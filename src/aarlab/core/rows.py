"""Files of rows from any writer: JSON lines, a JSON array, CSV, Parquet, gzip.

All such files are read here. Lines end at a line feed only, so a text may contain U+2028, NEL or a
form feed. All faults of a file are collected, each with file, line and reason.

Covered: what `core/foreign.py` covers, for every row; byte-order marks, CRLF, gzip that unpacks to
more than a limit, CSV fields of any length, a duplicate or missing CSV header, folders in place of
files. Not covered: what the values mean; numbers from Parquet may be NaN.
"""

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from aarlab.core.errors import BadInput, NotFound
from aarlab.core.foreign import (
    MAX_CONTAINERS,
    SAVE_AS_UTF8,
    no_text,
    not_utf8,
    read_json,
    shown,
)

MAX_BYTES = 2**30
MAX_FAULTS = 20
FORMATS = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz", ".parquet")
_CSV_FIELD = 2**31 - 1


class ForeignRow(NamedTuple):
    """A row of a foreign file. `place` is "line 3" or "row 3", counted from 1."""

    place: str
    values: dict[str, Any]


class Faults:
    """Faults of foreign files. Equal ones of one file are counted together.

    The first MAX_FAULTS kinds are shown.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], list[Any]] = {}
        self.hint = ""

    def __len__(self) -> int:
        return sum(count for _, count in self._found.values())

    def add(self, file: Path | str, place: str, reason: str) -> None:
        entry = self._found.setdefault((str(file), reason), [place, 0])
        entry[1] += 1

    def refuse(self) -> None:
        """Raise BadInput with all faults found; do nothing if there are none."""
        if not self._found:
            return
        lines = [
            f"{file}{', ' if place else ''}{place}: {reason}"
            + (f" (and {count - 1:,} more of this kind)" if count > 1 else "")
            for (file, reason), (place, count) in list(self._found.items())[:MAX_FAULTS]
        ]
        if len(self._found) > MAX_FAULTS:
            rest = sum(count for _, count in list(self._found.values())[MAX_FAULTS:])
            lines.append(f"... and {rest:,} more faults")
        if len(lines) > 1:
            lines.insert(0, f"{len(self):,} faults; nothing was written")
        raise BadInput("\n".join(lines + ([self.hint] if self.hint else [])))


def is_row_file(path: Path) -> bool:
    return path.name.endswith(FORMATS)


def read_rows(path: Path, faults: Faults, max_bytes: int = MAX_BYTES) -> Iterator[ForeignRow]:
    """Yield the rows that can be read, and add what cannot be read to `faults`.

    Raises NotFound for a missing file or library, BadInput for a folder or an unknown format.
    """
    if path.is_dir():
        raise BadInput(f"{path} is a folder; give a file ({', '.join(FORMATS)})")
    if not path.is_file():
        raise NotFound(f"no file {path}")
    if not is_row_file(path):
        raise BadInput(f"{path}: unknown format; expected {', '.join(FORMATS)}")
    if path.suffix == ".parquet":
        yield from _parquet(path, faults, max_bytes)
        return
    try:
        raw = _bytes(path, max_bytes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        faults.add(path, "", f"not a whole gzip file ({error})")
        return
    except ValueError as error:
        faults.add(path, "", str(error))
        return
    if reason := no_text(raw):
        faults.add(path, "", reason)
        return
    raw = raw.removeprefix(codecs.BOM_UTF8)
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[1]
    if kind == "csv":
        yield from _csv(raw, path, faults)
    elif kind == "json" and raw.lstrip()[:1] == b"[":
        yield from _array(raw, path, faults)
    else:
        yield from json_rows(raw, path, faults)


def _bytes(path: Path, most: int) -> bytes:
    """Read the file's content, unpacked; raises ValueError if it is larger than `most` bytes."""
    if not path.name.endswith(".gz"):
        if path.stat().st_size > most:
            raise ValueError(f"over {most >> 20:,} MiB; split the file or take fewer rows")
        return path.read_bytes()
    with gzip.open(path, "rb") as packed:
        raw = packed.read(most + 1)
    if len(raw) > most:
        raise ValueError(f"unpacks to over {most >> 20:,} MiB; split the file or take fewer rows")
    return raw


def json_rows(raw: bytes, path: Path | str, faults: Faults) -> Iterator[ForeignRow]:
    """Yield the objects of JSON lines that can be read, and add the others to `faults`."""
    start, number = 0, 0
    while start < len(raw):
        end = raw.find(b"\n", start)
        end = len(raw) if end < 0 else end
        line, start, number = raw[start:end], end + 1, number + 1
        if line.strip():
            place = f"line {number}"
            try:
                value = read_json(line, "")
            except BadInput as error:
                _add(faults, path, place, error)
            else:
                yield from _object(value, path, place, faults)


def _array(raw: bytes, path: Path, faults: Faults) -> Iterator[ForeignRow]:
    try:
        values = read_json(raw, "", max(MAX_CONTAINERS, len(raw) // 16))
    except BadInput as error:
        _add(faults, path, "", error)
        return
    for number, value in enumerate(values, start=1):
        yield from _object(value, path, f"row {number}", faults)


def _add(faults: Faults, path: Path | str, place: str, error: BadInput) -> None:
    reason = str(error).removeprefix(": ")
    faults.add(path, place, f"{reason}; {SAVE_AS_UTF8}" if "not UTF-8" in reason else reason)


def _object(value: Any, path: Path | str, place: str, faults: Faults) -> Iterator[ForeignRow]:
    if isinstance(value, dict):
        yield ForeignRow(place, value)
    else:
        faults.add(path, place, f"expected a JSON object, got {type(value).__name__}")


def _csv(raw: bytes, path: Path, faults: Faults) -> Iterator[ForeignRow]:
    header = list[str]()
    for place, cells in csv_records(raw, path, faults):
        if header and len(cells) != len(header):
            reason = f"{len(cells)} fields, the header has {len(header)} columns"
            faults.add(path, place, reason)
        elif header:
            yield ForeignRow(place, dict(zip(header, cells, strict=True)))
        elif _header(cells, path, place, faults):
            header = cells
        else:
            return


def csv_records(raw: bytes, path: Path | str, faults: Faults) -> Iterator[tuple[str, list[str]]]:
    """Yield place and cells of the CSV records that are not blank, a header included.

    What cannot be read is added to `faults`.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        for number, line in enumerate(raw.split(b"\n"), start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                faults.add(path, f"line {number}", f"{not_utf8(error)}; {SAVE_AS_UTF8}")
        return
    line_number = 1
    try:
        for line_number, cells in _cells(text):
            yield f"line {line_number}", cells
    except csv.Error as error:
        reason = f"not CSV ({error}) at or after this line; a quote may be left open"
        faults.add(path, f"line {line_number}", reason)


def _cells(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the CSV records that are not blank, each with the line on which it begins."""
    reader, line = csv.reader(io.StringIO(text, newline=""), strict=True), 1
    while True:
        before = csv.field_size_limit(_CSV_FIELD)  # process-wide, so it is restored each time
        try:
            cells = next(reader, None)
        finally:
            csv.field_size_limit(before)
        if cells is None:
            return
        if cells:
            yield line, cells
        line = reader.line_num + 1


def _header(cells: list[str], path: Path, place: str, faults: Faults) -> bool:
    """Return whether the line can name the columns. If not, add the reason to `faults`."""
    twice = next((cell for cell in cells if cells.count(cell) > 1), None)
    if len(cells) == 1 and (mark := next((m for m in ";\t|" if m in cells[0]), None)):
        faults.add(path, place, f"columns are separated by {mark!r}; save the file with commas")
    elif "" in cells:
        faults.add(path, place, "a column without a name: the first line names the columns")
    elif twice is not None:
        faults.add(path, place, f"the column {shown(twice)} is given twice")
    else:
        return True
    return False


def _parquet(path: Path, faults: Faults, most: int) -> Iterator[ForeignRow]:
    try:
        import pyarrow as arrow  # optional, and slow to import
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise NotFound(f"{path}: Parquet needs pyarrow; run: pip install 'aarlab[hub]'") from error
    try:
        with parquet.ParquetFile(path) as file:
            facts = file.metadata
            size = sum(facts.row_group(i).total_byte_size for i in range(facts.num_row_groups))
            if size > most:
                faults.add(path, "", f"unpacks to over {most >> 20:,} MiB; take fewer rows")
                return
            names = file.schema_arrow.names
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                faults.add(path, "", f"the column {shown(twice)} is given twice")
                return
            number = 0
            for batch in file.iter_batches(batch_size=1024):
                for values in batch.to_pylist():
                    number += 1
                    yield ForeignRow(f"row {number}", values)
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        faults.add(path, "", f"not a readable Parquet file ({str(error)[:120]})")
