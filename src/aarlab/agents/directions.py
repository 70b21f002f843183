"""Directions of control researchers: the part of the recipe grammar each starts from.

A direction is a few pinned options; the first trials of a researcher carry one of its pins, later
ones are free. Language-model AARs get a direction as text instead.
"""

from collections.abc import Mapping
from typing import Any

from aarlab.core.errors import NotFound

Pins = Mapping[str, Any]

DIRECTIONS: dict[str, tuple[Pins, ...]] = {
    "elicitation": (
        {"label.source": "zero_shot"},
        {"label.source": "posterior"},
        {"predict.kind": "blend"},
    ),
    "reweighting": (
        {"select.kind": "confident"},
        {"select.kind": "neighbours"},
        {"select.kind": "threshold"},
        {"train.weighting": "confidence"},
    ),
    "combining": (
        {"label.source": "posterior"},
        {"label.source": "blend"},
        {"label.source": "em_posterior"},
        {"select.kind": "agreement"},
        {"predict.kind": "blend"},
    ),
    "distillation": ({"train.rounds": 1}, {"train.rounds": 2}, {"predict.members": 5}),
    "simplicity_bias": ({"train.hidden": 0}, {"train.smoothing": 0.2}, {"train.epochs": 2}),
    "training_dynamics": (
        {"train.order": "confident_first"},
        {"train.loss": "aux_confidence"},
        {"train.loss": "window"},
    ),
    "undirected": ({},),
}


def pins_of(direction: str) -> tuple[Pins, ...]:
    """Raises NotFound naming the directions there are."""
    if direction not in DIRECTIONS:
        raise NotFound(f"no direction {direction!r}; there are {', '.join(sorted(DIRECTIONS))}")
    return DIRECTIONS[direction]
