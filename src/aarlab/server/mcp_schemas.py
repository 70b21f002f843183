"""Tool schemas that any client can read.

Some clients refuse `$ref`, a choice at the top, or a type that may be null. So references are
written out, and an argument that may be null is one that may be left out. Answers keep their null:
clients check them against the schema.
"""

from typing import Any

Schema = dict[str, Any]
CHOICES = ("anyOf", "oneOf")
NULL = {"type": "null"}


def input_schema(schema: Schema) -> Schema:
    """Of a tool's arguments: no `$ref`, no null. Raises RecursionError for a type in itself."""
    plain: Schema = _without_null(written_out(schema))
    return plain


def written_out(schema: Schema) -> Schema:
    """The schema with every `$ref` replaced by what it leads to."""
    defs = schema.get("$defs", {})
    written: Schema = _written({k: v for k, v in schema.items() if k != "$defs"}, defs)
    return written


def _written(value: Any, defs: Schema) -> Any:
    if isinstance(value, list):
        return [_written(one, defs) for one in value]
    if not isinstance(value, dict):
        return value
    if isinstance(ref := value.get("$ref"), str):
        beside = {k: v for k, v in value.items() if k != "$ref"}
        target = defs[ref.removeprefix("#/$defs/")]
        return _written({**target, **beside}, defs)
    return {k: _written(v, defs) for k, v in value.items()}


def _without_null(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_null(one) for one in value]
    if not isinstance(value, dict):
        return value
    for choice in CHOICES:
        branches = value.get(choice)
        if isinstance(branches, list) and NULL in branches:
            others = [one for one in branches if one != NULL]
            kept = {k: v for k, v in value.items() if k != choice}
            if kept.get("default", 0) is None:
                del kept["default"]
            # What was said of the argument itself goes before what its type says.
            kept = {**others[0], **kept} if len(others) == 1 else {**kept, choice: others}
            return _without_null(kept)
    return {k: _without_null(v) for k, v in value.items()}
