"""Templates over a foreign row: `{field}`, `{field.inner}`, `{field[0]}`, `{{` and `}}`.

Covered: a template reaches only keys of objects and items of lists, never an attribute. Format
codes and conversions are refused, and so is a value that is not a single text or number.
"""

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from aarlab.core.errors import BadInput
from aarlab.core.foreign import shown

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[^{}]+|[{}]")
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d{1,6})\]")


class Field(NamedTuple):
    """A field of a row: its name as written, and the keys and positions that lead to it."""

    name: str
    steps: tuple[str | int, ...]


@lru_cache(maxsize=256)
def parse_template(text: str) -> tuple[str | Field, ...]:
    """Return the literal pieces and fields. Raises ValueError for anything else in braces."""
    pieces: list[str | Field] = []
    for match in _PIECE.finditer(text):
        piece = match.group()
        if match.group(1) is not None:
            pieces.append(parse_field(match.group(1)))
        elif piece in ("{", "}"):
            raise ValueError(f"{shown(text)}: a single {piece!r}; write {piece * 2} for the sign")
        else:
            pieces.append(piece[0] if piece in ("{{", "}}") else piece)
    return tuple(pieces)


@lru_cache(maxsize=256)
def parse_field(name: str) -> Field:
    """Return the steps of a field such as `a.b[0]`.

    Raises ValueError for an empty name, format codes or conversions.
    """
    steps, at = list[str | int](), 0
    while at < len(name):
        match = _STEP.match(name, at)
        if match is None or (at == 0 and name[0] in ".["):
            break
        steps.append(match[1] if match[1] is not None else int(match[2]))
        at = match.end()
    if not steps or at < len(name) or "!" in name or ":" in name:
        raise ValueError(
            f"{{{name}}}: expected a field such as {{name}}, {{name.inner}}, {{name[0]}}"
        )
    return Field(name, tuple(steps))


def fill(template: str, row: Mapping[str, Any]) -> str:
    """Return the template filled from the row, stripped. A null counts as an empty text.

    Raises BadInput naming the field and what the row has.
    """
    parts = [
        piece if isinstance(piece, str) else _as_text(piece, value_at(piece, row))
        for piece in parse_template(template)
    ]
    return "".join(parts).strip()


def value_at(field: Field, row: Mapping[str, Any]) -> Any:
    """Return the value of a field. A column with the field's full name takes precedence.

    Raises BadInput naming the field and what the row has.
    """
    if field.name in row:
        return row[field.name]
    value: Any = row
    for step in field.steps:
        has_key = isinstance(value, Mapping) and isinstance(step, str) and step in value
        has_item = isinstance(value, list | tuple) and isinstance(step, int) and step < len(value)
        if has_key or has_item:
            value = value[step]
        else:
            there = (
                ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
            )
            raise BadInput(
                f"the mapping's field {{{field.name}}} is not there: no {step!r} in "
                f"{there[:200] or 'an empty object'}"
            )
    return value


def _as_text(field: Field, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    what = "not a finite number" if isinstance(value, float) else f"a {type(value).__name__}"
    inner = " (name an item, e.g. {" + field.name + "[0]})" if isinstance(value, list) else ""
    raise BadInput(f"the mapping's field {{{field.name}}} is {what}, not a text{inner}")
