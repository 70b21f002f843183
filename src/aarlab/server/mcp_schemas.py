"""Tool schemas that any client can read.

Some clients refuse `$ref`, a choice at the top level, or a nullable type. References are therefore
inlined, and a nullable argument becomes one that may be omitted. Results keep their null, since
clients check them against the schema.
"""

from typing import Any

Schema = dict[str, Any]
CHOICES = ("anyOf", "oneOf")
NULL = {"type": "null"}


def input_schema(schema: Schema) -> Schema:
    """Return the schema of a tool's arguments without `$ref` and null.

    Raises RecursionError for a recursive type.
    """
    plain: Schema = _without_null(written_out(schema))
    return plain


def written_out(schema: Schema) -> Schema:
    """Return the schema with every `$ref` replaced by its target."""
    defs = schema.get("$defs", {})
    written: Schema = _written({k: v for k, v in schema.items() if k != "$defs"}, defs)
    return written


def _written(value: Any, defs: Schema) -> Any:
    if isinstance(value, list):
        return [_written(one, defs) for one in value]
    if not isinstance(value, dict):
        return value
    if isinstance(ref := value.get("$ref"), str):
        others = {k: v for k, v in value.items() if k != "$ref"}
        target = defs[ref.removeprefix("#/$defs/")]
        return _written({**target, **others}, defs)
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
            # The argument's own description overrides that of its type.
            kept = {**others[0], **kept} if len(others) == 1 else {**kept, choice: others}
            return _without_null(kept)
    return {k: _without_null(v) for k, v in value.items()}
