"""A named method, and the two ways to make one."""

from collections.abc import Callable
from dataclasses import dataclass

from aarlab.testbed.recipes.recipe import Recipe
from aarlab.testbed.recipes.run_recipe import run_recipe
from aarlab.testbed.running.contract import Fit


@dataclass(frozen=True, slots=True)
class Method:
    """`recipe` is None where it is plain code; `guard` marks a guard baseline.

    `needs_model`: asks the strong model for more than a task's stored features, so it runs only
    where the weights are (`aarlab testbed run`, `aarlab method run`, tasks built with the model).
    `holds_model`: it trains the model itself, with a library.
    """

    name: str
    fit: Fit
    doc: str
    recipe: Recipe | None = None
    guard: bool = False
    needs_model: bool = False
    holds_model: bool = False

    @property
    def reads_texts(self) -> bool:
        """Return whether it reads texts of rows, and so is verified in the open class."""
        return self.holds_model or (self.guard and self.recipe is None)


def method_of_recipe(name: str, recipe: Recipe, guard: bool = False, doc: str = "") -> Method:
    return Method(name, run_recipe(recipe), doc or recipe.describe(), recipe, guard)


def recipe_method(make: Callable[[], Recipe]) -> Method:
    """Make a method of a recipe, with the name and docstring of the function that returns it."""
    return method_of_recipe(make.__name__, make(), doc=make.__doc__ or "")


def plain_method(
    fit: Fit, name: str = "", needs_model: bool = False, holds_model: bool = False
) -> Method:
    """Make a method of plain code, with the name and docstring of its `fit`."""
    return Method(
        name or fit.__name__,
        fit,
        fit.__doc__ or "",
        needs_model=needs_model or holds_model,
        holds_model=holds_model,
    )


def guard_method(fit: Fit) -> Method:
    return Method(fit.__name__, fit, fit.__doc__ or "", guard=True)
