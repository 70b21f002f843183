"""Option values that typer does not check; invalid ones are refused, never dropped."""

import math

import typer

from aarlab.core.errors import BadInput


def comma_list(text: str, option: str, at_least: int = 0) -> list[str]:
    """Split `a,b` into stripped items; raises BadInput for too few, empty or duplicate items."""
    items = [item.strip() for item in text.split(",")] if text.strip() else []
    if "" in items:
        raise BadInput(f"{option} {text!r}: an item is empty; separate items by one comma")
    twice = next((item for item in items if items.count(item) > 1), None)
    if twice is not None:
        raise BadInput(f"{option} {text!r}: {twice!r} is there twice")
    if len(items) < at_least:
        raise BadInput(f"{option} {text!r}: name at least {at_least}")
    return items


def number_list(text: str, option: str) -> list[int]:
    """Split `12,18` into non-negative integers; raises BadInput naming the invalid item."""
    items = comma_list(text, option)
    for item in items:
        if not (item.isascii() and item.isdigit() and len(item) < 10):
            raise BadInput(f"{option} {text!r}: {item!r} is not a whole number from 0")
    return [int(item) for item in items]


def finite(value: float | None) -> float | None:
    """Return the value; refuse `nan` and `inf`, which a lower bound accepts.

    Serves as the callback of an option.
    """
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter("expected a finite number")
    return value
