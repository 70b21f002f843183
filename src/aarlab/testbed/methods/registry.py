"""All methods by name: the built-in ones, family by family, and those of installed packages.

An installed method is a method folder inside a package. Its entry point names the folder:

    [project.entry-points."aarlab.methods"]
    sharpened = "my_package.sharpened"    # the folder my_package/sharpened, with method.py

Campaigns and verification copy the folder's files and run them in a sandbox; they import nothing of
the package. `find_method` imports it, as `aarlab testbed run` does with any method folder.
"""

from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path

from aarlab.core.errors import BadInput, NotFound
from aarlab.core.registry import Registry
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
from aarlab.testbed.running.method_folder import load_method

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
    """Return a built-in method or one of an installed package, whose code is imported.

    Raises NotFound listing the methods there are.
    """
    return REGISTRY.get(name)


def installed_folder(name: str) -> Path | None:
    """Return the folder of an installed method, or None if no package has one of that name.

    Imports no code of the package. Raises NotFound or BadInput for an entry that names no folder.
    """
    entry = REGISTRY.installed().get(name)
    return None if entry is None else _folder(entry)


def _folder(entry: EntryPoint) -> Path:
    top, *parts = entry.value.split(".")
    package = find_spec(top)  # of a top-level name: nothing is imported
    places = [] if package is None else list(package.submodule_search_locations or [])
    for folder in (Path(place).joinpath(*parts) for place in places):
        if (folder / "method.py").is_file():
            if folder.name != entry.name:
                raise BadInput(f"{folder} must have the name of the method, {entry.name}")
            return folder
    raise NotFound(f"there is no folder {entry.value} with method.py")


def _load(entry: EntryPoint) -> Method:
    own = load_method(_folder(entry))
    return Method(entry.name, own.fit, (own.module.__doc__ or "").strip())


REGISTRY: Registry[Method] = Registry(
    "method", "aarlab.methods", Method, METHODS, load=_load, listed_by="aarlab method list"
)
