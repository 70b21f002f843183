"""Directions of control researchers: the part of the recipe grammar each starts from.

A direction is a few pins, each of one or more options. The first trials of a researcher carry one
of its pins, later ones are free. Language-model AARs get a direction as text instead.
"""

from collections.abc import Mapping
from typing import Any

from aarlab.core.errors import NotFound
from aarlab.testbed.recipes.recipe import Recipe, with_options

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
        {"select.kind": "overlap"},
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
    "regularisation": (
        {"train.epochs": 3},
        {"train.epochs": 3, "train.lr": 1e-3},
        {"train.weight_decay": 10.0},
    ),
    "several_teachers": (
        {"label.source": "teachers"},
        {"label.source": "votes"},
        {"label.source": "votes", "select.kind": "confident"},
    ),
    "undirected": ({},),
}


def pins_of(direction: str, zero_shot: bool = True) -> tuple[Pins, ...]:
    """Return the pins of a direction; raises NotFound naming the directions there are.

    Without `zero_shot`, for tasks that have no log-likelihoods, pins that ask for them are left
    out. A direction that has only such pins then starts anywhere.
    """
    if direction not in DIRECTIONS:
        raise NotFound(f"no direction {direction!r}; there are {', '.join(sorted(DIRECTIONS))}")
    pins = DIRECTIONS[direction]
    if zero_shot:
        return pins
    plain = [each for each in pins if not with_options(Recipe(), each).asks_zero_shot]
    return tuple(plain) or DIRECTIONS["undirected"]
