"""Method folders: `method.py` with `fit(task, student, seed)`, and what else it needs beside it."""

import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from aarlab.core.errors import AarlabError, BadInput, MethodFailed
from aarlab.core.files import write_atomic
from aarlab.testbed.recipe import Recipe

Result = TypeVar("Result")
RECIPE_SOURCE = '''"""{title}"""

from pathlib import Path

from aarlab.testbed.recipe import recipe_from_json
from aarlab.testbed.run_recipe import run_recipe

RECIPE = recipe_from_json((Path(__file__).parent / "recipe.json").read_text(), "recipe.json")
fit = run_recipe(RECIPE)
'''
NAMED_SOURCE = '''"""The built-in method {name}."""

from aarlab.testbed.methods import METHODS

fit = METHODS["{name}"].fit
'''


def method_source(recipe: Recipe, title: str = "") -> str:
    """Text of the `method.py` that runs the `recipe.json` beside it."""
    plain = (title or recipe.describe()).replace("\\", "").replace('"""', "'''").rstrip('"')
    return RECIPE_SOURCE.format(title=plain)


def recipe_files(recipe: Recipe, title: str = "") -> dict[str, str]:
    """The files of a standalone method folder, by relative path."""
    return {"method.py": method_source(recipe, title), "recipe.json": recipe.to_json()}


def named_files(name: str) -> dict[str, str]:
    """The method folder of a built-in method that is no recipe; the name is checked when it
    runs."""
    if not name.isidentifier():
        raise BadInput(f"method name {name!r}: use letters, digits and _")
    return {"method.py": NAMED_SOURCE.format(name=name)}


def write_method(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write_atomic(folder / name, text)


def load_method(folder: Path) -> ModuleType:
    """Import `method.py` with its folder on the path; MethodFailed when it defines no `fit`.

    Errors of the method's own code pass through.
    """
    path = folder / "method.py"
    if not path.is_file():
        raise MethodFailed(f"{folder.name}: there is no method.py")
    sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location("method", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["method"] = module
    spec.loader.exec_module(module)
    if not callable(getattr(module, "fit", None)):
        raise MethodFailed("method.py defines no function fit(task, student, seed)")
    return module


def guarded(method: Path, call: Callable[[], Result]) -> Result:
    """Call foreign code; whatever it raises becomes MethodFailed with the method's own frames."""
    try:
        return call()
    except AarlabError as error:
        raise MethodFailed(f"{error}{_own_frames(method, error)}") from error
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {error}"
        raise MethodFailed(f"{what[:2000]}{_own_frames(method, error)}") from error


def _own_frames(method: Path, error: BaseException) -> str:
    folder = str(method.resolve())
    frames = [
        f"\n  {Path(frame.filename).name} line {frame.lineno} in {frame.name}: {frame.line}"
        for frame in traceback.extract_tb(error.__traceback__)
        if str(Path(frame.filename).resolve()).startswith(folder)
    ]
    return "".join(frames[-8:])
