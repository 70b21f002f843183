"""Read the folder format of the published study: `train_label`, `train_unlabel`, `test` (.jsonl).

Rows are {"prompt", "first", "second", "label": "A"|"B"} or {"question", "choice", "label": bool};
"id", "group" and "source" are optional. `train_label` becomes split teacher, `train_unlabel` is
split train, and whole groups of `test` are dealt to search, selection and certify. Reading writes
nothing.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from aarlab.core.canonical import sha256_hex
from aarlab.core.errors import BadInput, NotFound
from aarlab.core.ids import checked_name
from aarlab.core.types import Example, TaskKind
from aarlab.testbed.data import LabelledSplit, TaskData
from aarlab.testbed.splits import EvalShares, deal_groups

FILES = ("train_label", "train_unlabel", "test")
TEXTS: dict[TaskKind, tuple[str, ...]] = {
    "preference": ("prompt", "first", "second"),
    "verification": ("question", "choice"),
}
KNOWN_FIELDS = frozenset({"id", "group", "source", "label"})


@dataclass(frozen=True, slots=True)
class FolderOptions:
    """How a test file is dealt; saved in the task's settings."""

    seed: int = 0
    shares: EvalShares = field(default_factory=EvalShares)


class _Row(NamedTuple):
    line: int
    example: Example
    target: int


class _Place(NamedTuple):
    """Where a row stands, for messages."""

    file: Path
    line: int

    def refuse(self, reason: str) -> BadInput:
        return BadInput(f"{self.file}, line {self.line}: {reason}")


def read_folder(path: Path, name: str, options: FolderOptions | None = None) -> TaskData:
    """Read and check a whole folder; raises NotFound or BadInput naming file, line and reason."""
    options = options or FolderOptions()
    checked_name(name, "task")
    rows = {stem: list(_read_file(path / f"{stem}.jsonl", name)) for stem in FILES}
    kind = _one_kind(path, rows)
    _refuse_overlaps(path, rows)
    for stem in FILES:
        if len({row.target for row in rows[stem]}) < 2:
            raise BadInput(f"{path / stem}.jsonl: all labels are the same; both classes are needed")
    test = _labelled(rows["test"])
    groups_N = [example.group for example in test.examples]
    dealt = deal_groups(groups_N, test.targets_N, options.shares, options.seed)
    shares = options.shares
    return TaskData(
        name=name,
        kind=kind,
        title=name,
        description=f"{kind} rows from a folder in the format of the study",
        settings={
            "source": "folder",
            "folder": path.name,
            "files": {stem: sha256_hex((path / f"{stem}.jsonl").read_bytes()) for stem in FILES},
            "split_seed": options.seed,
            "shares": [shares.search, shares.selection, shares.certify],
        },
        splits={
            "teacher": _labelled(rows["train_label"]),
            "train": _labelled(rows["train_unlabel"]),
            **{
                split: LabelledSplit(
                    tuple(test.examples[row] for row in dealt[split]), test.targets_N[dealt[split]]
                )
                for split in dealt
            },
        },
    )


def _read_file(file: Path, task: str) -> Iterator[_Row]:
    if not file.is_file():
        raise NotFound(
            f"{file} does not exist; a task folder holds "
            + ", ".join(f"{stem}.jsonl" for stem in FILES)
        )
    try:
        text = file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        line = file.read_bytes()[: error.start].count(b"\n") + 1
        raise BadInput(f"{file}, line {line}: not UTF-8 text ({error.reason})") from error
    n_rows = 0
    for line, raw in enumerate(text.split("\n"), start=1):
        if raw.strip():
            n_rows += 1
            yield _parse_row(raw, _Place(file, line), task)
    if not n_rows:
        raise BadInput(f"{file}: holds no rows")


def _parse_row(raw: str, place: _Place, task: str) -> _Row:
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise place.refuse(f"not JSON ({error})") from error
    if not isinstance(row, dict):
        raise place.refuse(f"expected a JSON object, got {type(row).__name__}")
    kind = _row_kind(row, place)
    prompt, *answers = (_text(row, field, place) for field in TEXTS[kind])
    made = f"{task}-{place.file.stem}-{place.line:05d}"
    group = _optional(row, "group", place) or f"p-{sha256_hex(prompt)[:12]}"
    example = Example(_optional(row, "id", place) or made, group, prompt, tuple(answers))
    return _Row(place.line, example, _target(row, kind, place))


def _row_kind(row: dict[str, Any], place: _Place) -> TaskKind:
    """The kind whose text fields the row names; unknown fields are refused."""
    kinds: list[TaskKind] = [kind for kind, fields in TEXTS.items() if set(fields) & set(row)]
    if len(kinds) != 1:
        raise place.refuse(
            'expected fields "prompt", "first", "second" or fields "question", "choice"; got '
            + (", ".join(sorted(map(str, row))) or "none")
        )
    unknown = set(row) - KNOWN_FIELDS - set(TEXTS[kinds[0]])
    if unknown:
        raise place.refuse(f"unknown field {sorted(unknown)[0]!r}")
    missing = [field for field in (*TEXTS[kinds[0]], "label") if field not in row]
    if missing:
        raise place.refuse(f"missing field {missing[0]!r}")
    return kinds[0]


def _text(row: dict[str, Any], field: str, place: _Place) -> str:
    value = row[field]
    if not isinstance(value, str):
        raise place.refuse(f"field {field!r} must be a string, got {type(value).__name__}")
    if not value.strip():
        raise place.refuse(f"field {field!r} is empty")
    if not _encodable(value):
        raise place.refuse(f"field {field!r} holds a broken character (half a surrogate pair)")
    return value


def _encodable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _optional(row: dict[str, Any], field: str, place: _Place) -> str | None:
    if row.get(field) is None:
        return None
    return _text(row, field, place)


def _target(row: dict[str, Any], kind: TaskKind, place: _Place) -> int:
    label = row["label"]
    if kind == "preference" and label in ("A", "B"):
        return int(label == "A")
    if kind == "verification" and isinstance(label, bool):
        return int(label)
    wanted = '"A" or "B"' if kind == "preference" else "true or false"
    raise place.refuse(f"unknown label {label!r}; a {kind} row has {wanted}")


def _one_kind(path: Path, rows: dict[str, list[_Row]]) -> TaskKind:
    first = rows[FILES[0]][0].example.kind
    for stem in FILES:
        for row in rows[stem]:
            if row.example.kind != first:
                raise _Place(path / f"{stem}.jsonl", row.line).refuse(
                    f"a {row.example.kind} row in a {first} task; all rows must be of one kind"
                )
    return first


def _refuse_overlaps(path: Path, rows: dict[str, list[_Row]]) -> None:
    """No id twice anywhere, no group in two files."""
    ids: dict[str, str] = {}
    groups: dict[str, tuple[str, int]] = {}
    for stem in FILES:
        for line, example, _ in rows[stem]:
            place = _Place(path / f"{stem}.jsonl", line)
            if example.id in ids:
                raise place.refuse(f"duplicate id {example.id!r}, first in {ids[example.id]}")
            ids[example.id] = f"{stem}.jsonl, line {line}"
            other, other_line = groups.setdefault(example.group, (stem, line))
            if other != stem:
                raise place.refuse(
                    f"group {example.group!r} is in two splits: {other}.jsonl (line {other_line}) "
                    f"and {stem}.jsonl"
                )


def _labelled(rows: list[_Row]) -> LabelledSplit:
    return LabelledSplit(
        tuple(row.example for row in rows), np.array([row.target for row in rows], dtype=np.int8)
    )
