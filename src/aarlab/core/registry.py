"""Registries of extensions: built-in entries, and those of installed packages by entry points.

Nothing is read or imported before a name is asked for. Names come from the packages' metadata
alone; an entry's code is imported by `get`, in the process that calls it.
Covered: an installed package cannot replace a built-in entry, nor another package's.
Not covered: what an entry's code does. Installing a package means trusting it in every process
that calls `get`; docs/extending.md says which ones do.
"""

import importlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar, cast

from aarlab.core.errors import BadInput, Conflict, Damaged, NotFound

T = TypeVar("T")
GROUPS = (
    "aarlab.tasks",
    "aarlab.methods",
    "aarlab.audits",
    "aarlab.adaptations",
    "aarlab.executors",
    "aarlab.tools",
    "aarlab.exporters",
    "aarlab.problems",
)
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


def place_of(entry: EntryPoint) -> str:
    """Name an entry's distribution, group and text, as errors and lists show them."""
    known = entry.dist
    package = "an unknown package" if known is None else f"{known.name} {known.version}"
    return f"{package}, [{entry.group}] {entry.name} = {entry.value}"


def installed(what: str, group: str, taken: Collection[str]) -> dict[str, EntryPoint]:
    """Return the entries of a group by name, sorted, without importing them.

    `taken` are the built-in names. Raises Conflict for a name that is taken or given twice,
    BadInput for one that is not short and plain.
    """
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=group), key=lambda one: (one.name, one.value)):
        if not NAME.fullmatch(entry.name):
            raise BadInput(f"{place_of(entry)}: a {what}'s name has 1 to 40 of a-z 0-9 _ -")
        if entry.name in taken:
            raise Conflict(
                f"{place_of(entry)}: there is a built-in {what} {entry.name!r}; rename the entry "
                "or uninstall the package"
            )
        if entry.name in found:
            raise Conflict(
                f"two packages register the {what} {entry.name!r}: {place_of(found[entry.name])} "
                f"and {place_of(entry)}; uninstall one"
            )
        found[entry.name] = entry
    return found


@dataclass
class Registry(Generic[T]):
    """All entries of one kind by name.

    `built_in` maps names to entries, or to "module:attribute" where the module is heavy. `load`
    turns the entry point of an installed package into an object of the type `expected`. `reserved`
    are more names that packages may not use; `listed_by` is the command that lists the entries.
    """

    what: str
    group: str
    expected: type[T]
    built_in: Mapping[str, T | str]
    load: Callable[[EntryPoint], object] = EntryPoint.load
    reserved: Collection[str] = ()
    listed_by: str = ""
    _loaded: dict[str, T] = field(default_factory=dict, init=False, repr=False)
    _installed: dict[str, EntryPoint] | None = field(default=None, init=False, repr=False)

    def installed(self) -> Mapping[str, EntryPoint]:
        """Return the entries of installed packages; raises as the function `installed` does."""
        if self._installed is None:
            taken = {*self.built_in, *self.reserved}
            self._installed = installed(self.what, self.group, taken)
        return self._installed

    def names(self) -> list[str]:
        """Return all names, the built-in ones first. Imports no entry."""
        return [*self.built_in, *self.installed()]

    def __contains__(self, name: object) -> bool:
        return name in self.built_in or name in self.installed()

    def get(self, name: str) -> T:
        """Return the entry of that name, imported once.

        Raises NotFound naming the entries there are, Damaged naming distribution, group and entry
        where an installed one cannot be loaded or is of another type.
        """
        if name in self._loaded:
            return self._loaded[name]
        if name in self.built_in:
            made: object = self.built_in[name]
            if isinstance(made, str):
                module, _, attribute = made.partition(":")
                made = getattr(importlib.import_module(module), attribute)
        elif name in self.installed():
            made = self._of_package(self.installed()[name])
        else:
            raise NotFound(self.unknown(name))
        self._loaded[name] = cast(T, made)
        return self._loaded[name]

    def unknown(self, name: str) -> str:
        """Say that there is not an entry of that name, which there are, and how to add one."""
        listed = f" ({self.listed_by})" if self.listed_by else ""
        return (
            f"no {self.what} {name!r}; there are {', '.join(self.names())}{listed}. Installed "
            f"packages add one by the entry-point group {self.group!r}"
        )

    def refresh(self) -> None:
        """Forget what was read of installed packages, so that it is read again when needed."""
        self._installed = None
        for name in [name for name in self._loaded if name not in self.built_in]:
            del self._loaded[name]

    def _of_package(self, entry: EntryPoint) -> T:
        where = f"{place_of(entry)}: this {self.what}"
        try:
            made = self.load(entry)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise Damaged(f"{where} cannot be loaded ({said}); fix or uninstall it") from error
        if not isinstance(made, self.expected):
            wanted, given = self.expected.__name__, type(made).__name__
            raise Damaged(f"{where} must be a {wanted}, and is a {given}")
        if getattr(made, "name", entry.name) != entry.name:
            raise Damaged(f"{where} calls itself {made.name!r}")  # type: ignore[attr-defined]
        return made
