"""A model's answer in a form that a file can hold: providers send JSON that files cannot.

Covered: lone surrogates, as ? ; arguments of a tool that are nested without end, cut off.
"""

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from inspect_ai.model import ModelOutput
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from aarlab.core import foreign

CUT = "(nested too deeply)"
Value = TypeVar("Value")


def storable(output: ModelOutput) -> ModelOutput:
    """The answer itself where it can be written, which is nearly always."""
    try:
        output.model_dump_json()
    except PydanticSerializationError:
        return _plain(output, 0)
    return output


def _plain(value: Value, depth: int) -> Value:
    made: Any = value
    if isinstance(value, str):
        made = foreign.storable(value)
    elif depth > foreign.MAX_DEPTH:
        made = CUT
    elif isinstance(value, BaseModel):
        names = type(value).model_fields
        made = value.model_copy(update={n: _plain(getattr(value, n), depth + 1) for n in names})
    elif is_dataclass(value) and not isinstance(value, type):
        inner = {f.name: _plain(getattr(value, f.name), depth + 1) for f in fields(value) if f.init}
        made = replace(value, **inner)
    elif isinstance(value, dict):
        made = {_plain(k, depth + 1): _plain(v, depth + 1) for k, v in value.items()}
    elif isinstance(value, list):
        made = [_plain(part, depth + 1) for part in value]
    return made  # type: ignore[no-any-return]
