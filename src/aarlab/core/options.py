"""Options that pydantic checks: frozen, strict, JSON round-trip. Loads neither torch nor numpy."""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from aarlab.core.errors import BadInput

# A verified run may load options for each seed: a schema is made where it is used first.
STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True)


class Options(BaseModel):
    """Base of options: an unknown name or a value out of range raises BadInput naming it."""

    model_config = STRICT

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            what = type(self).__name__.removesuffix("Stage").removesuffix("Options").lower()
            raise BadInput(explain(what, error)) from error


def explain(what: str, error: ValidationError) -> str:
    """Return one line per wrong field: where it is, what is expected, what was given."""
    lines = []
    for item in error.errors(include_url=False):
        place = ".".join(str(part) for part in item["loc"]) or "value"
        lines.append(f"{what}.{place}: {item['msg']} (got {item['input']!r})")
    return "; ".join(lines)
