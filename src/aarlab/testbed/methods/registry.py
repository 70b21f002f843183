"""The registry of built-in methods: a plain dict, family by family. Nothing registers itself."""

from aarlab.core.errors import NotFound
from aarlab.testbed.methods import (
    elicitation,
    generation,
    grpo,
    guards,
    losses,
    published,
    selection,
    teachers,
)
from aarlab.testbed.methods.method import Method

FAMILIES: dict[str, tuple[Method, ...]] = {
    "baselines": published.METHODS,
    "losses and training": losses.METHODS,
    "selecting, weighting, relabelling": selection.METHODS,
    "several and assisted teachers": teachers.METHODS,
    "the student's own knowledge": elicitation.METHODS,
    "generation": (*generation.METHODS, *grpo.METHODS),
    "guard baselines": guards.METHODS,
}
METHODS: dict[str, Method] = {m.name: m for family in FAMILIES.values() for m in family}


def find_method(name: str) -> Method:
    """Raises NotFound listing the methods there are."""
    if name not in METHODS:
        raise NotFound(f"no method {name!r}; there are {', '.join(METHODS)}")
    return METHODS[name]
