"""The registry of built-in methods: a plain dict. Nothing registers itself."""

from collections.abc import Callable
from dataclasses import dataclass

from aarlab.core.errors import NotFound
from aarlab.testbed.contract import Fit
from aarlab.testbed.methods import guards, published
from aarlab.testbed.recipe import Recipe
from aarlab.testbed.run_recipe import run_recipe


@dataclass(frozen=True, slots=True)
class Method:
    """A named method. `recipe` is None where it is plain code; `guard` marks a guard baseline."""

    name: str
    fit: Fit
    doc: str
    recipe: Recipe | None = None
    guard: bool = False


def method_of_recipe(name: str, recipe: Recipe, guard: bool = False, doc: str = "") -> Method:
    return Method(name, run_recipe(recipe), doc or recipe.describe(), recipe, guard)


def _published(make: Callable[[], Recipe]) -> Method:
    return method_of_recipe(make.__name__, make(), doc=make.__doc__ or "")


def _guard(fit: Fit, name: str) -> Method:
    return Method(name, fit, fit.__doc__ or "", guard=True)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        _published(published.vanilla),
        _published(published.vanilla_soft),
        _published(published.confident),
        _published(published.aux_confidence),
        _published(published.zero_shot),
        _published(published.em_posterior),
        _published(published.self_training),
        _guard(guards.guard_majority, "guard_majority"),
        _guard(guards.guard_length, "guard_length"),
        _guard(guards.guard_tfidf, "guard_tfidf"),
        method_of_recipe(
            "guard_ensemble", published.ensemble(), True, published.ensemble.__doc__ or ""
        ),
    )
}


def find_method(name: str) -> Method:
    """Raises NotFound listing the methods there are."""
    if name not in METHODS:
        raise NotFound(f"no method {name!r}; there are {', '.join(METHODS)}")
    return METHODS[name]
