"""Method folders: `method.py` with `fit(task, student, seed)`, and the files it needs.

A folder's code is imported and run so that it leaves nothing in `sys.path` or `sys.modules` for the
next folder. See `own_imports` for how a folder's modules are found.
"""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from aarlab.core.errors import AarlabError, MethodFailed
from aarlab.core.files import write_atomic
from aarlab.testbed.own_imports import PACKAGE, OwnImports
from aarlab.testbed.recipe import Recipe

if TYPE_CHECKING:
    from aarlab.core.types import Example
    from aarlab.testbed.student import StudentFactory
    from aarlab.testbed.task import TrainTask

Result = TypeVar("Result")
SHOWN_FRAMES = 8
RECIPE_SOURCE = '''"""{title}"""

from pathlib import Path

from aarlab.testbed.recipe import recipe_from_json
from aarlab.testbed.run_recipe import run_recipe

RECIPE = recipe_from_json((Path(__file__).parent / "recipe.json").read_text(), "recipe.json")
fit = run_recipe(RECIPE)
'''


def method_source(recipe: Recipe, title: str = "") -> str:
    """Text of the `method.py` that runs the `recipe.json` beside it."""
    plain = (title or recipe.describe()).replace("\\", "").replace('"""', "'''").rstrip('"')
    return RECIPE_SOURCE.format(title=plain)


def recipe_files(recipe: Recipe, title: str = "") -> dict[str, str]:
    """The files of a standalone method folder, by relative path."""
    return {"method.py": method_source(recipe, title), "recipe.json": recipe.to_json()}


def write_method(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write_atomic(folder / name, text)


class OwnFailure(MethodFailed):
    """A method failure whose message already ends with the author's lines."""


@dataclass(frozen=True, slots=True)
class OwnPredictor:
    """The predictor that a folder's `fit` returned.

    Its errors become MethodFailed with the author's lines. `where` names the line that defines
    `predict_proba`, for errors about the values it returned.
    """

    method: "OwnMethod"
    inner: Any

    def predict_proba(self, inputs: "Sequence[Example]") -> Any:
        return self.method.call(lambda: self.inner.predict_proba(inputs))

    @property
    def where(self) -> str:
        return self.method.line_of(getattr(self.inner, "predict_proba", None))


@dataclass(frozen=True, slots=True)
class OwnMethod:
    """An imported method folder. Its modules are visible only to calls into it."""

    folder: Path
    module: ModuleType
    imports: OwnImports = field(repr=False)

    def fit(self, task: "TrainTask", student: "StudentFactory", seed: int) -> Any:
        """Return what the folder's `fit` returns. Raises MethodFailed with the author's lines.

        An object with `predict_proba` is wrapped in OwnPredictor.
        """

        def fitted() -> Any:
            predictor = self.module.fit(task, student, seed)
            keeps = callable(getattr(predictor, "predict_proba", None))
            return OwnPredictor(self, predictor) if keeps else predictor

        return self.call(fitted)

    def call(self, action: Callable[[], Result]) -> Result:
        """Run the folder's code. What it raises becomes MethodFailed, except KeyboardInterrupt."""

        def visit() -> Result:
            with self.imports.visiting():
                return action()

        return guarded(self.folder, visit)

    def line_of(self, function: object) -> str:
        """Return where a function is defined, such as "\\n  method.py:7 in predict_proba".

        Returns an empty string for code outside the folder.
        """
        code = getattr(getattr(function, "__func__", function), "__code__", None)
        if not isinstance(code, CodeType):
            return ""
        place = _inside(self.folder, code.co_filename)
        return "" if place is None else f"\n  {place}:{code.co_firstlineno} in {code.co_name}"


def load_method(folder: Path) -> OwnMethod:
    """Import `method.py`. Raises MethodFailed if that fails or if it defines no `fit`."""
    folder = folder.absolute()
    if not (folder / "method.py").is_file():
        raise MethodFailed(f"{folder.name}: there is no method.py")
    imports = OwnImports(folder)

    def imported() -> ModuleType:
        with imports.visiting():
            return imports.load("method")

    try:
        module = guarded(folder, imported)
    except BaseException:
        imports.forget()
        raise
    if not callable(getattr(module, "fit", None)):
        imports.forget()
        raise MethodFailed("method.py defines no function fit(task, student, seed)")
    return OwnMethod(folder, module, imports)


def guarded(folder: Path, call: Callable[[], Result]) -> Result:
    """Call foreign code and turn what it raises into MethodFailed with the author's lines.

    KeyboardInterrupt passes through.
    """
    try:
        return call()
    except (KeyboardInterrupt, OwnFailure):
        raise
    except AarlabError as error:
        raise OwnFailure(f"{error}{own_lines(folder, error)}") from error
    except BaseException as error:
        said = f"{type(error).__name__}: {_text(error)}"[:2000]
        raise OwnFailure(f"{said}{own_lines(folder, error)}{_hint(folder, error)}") from error


def own_lines(folder: Path, error: BaseException) -> str:
    """Return the author's frames of an error, innermost last, each as `method.py:7 in fit: ...`."""
    seen: BaseException | None = error
    while seen is not None:
        frames = [
            f"\n  {place}:{frame.lineno} in {frame.name}: {frame.line}"
            for frame in traceback.extract_tb(seen.__traceback__)
            if (place := _inside(folder, frame.filename)) is not None
        ]
        if isinstance(seen, SyntaxError) and seen.filename:
            place = _inside(folder, seen.filename)
            frames += [f"\n  {place}:{seen.lineno}: {(seen.text or '').strip()}"] if place else []
        if frames:
            return "".join(frames[-SHOWN_FRAMES:])
        seen = seen.__cause__ or seen.__context__
    return ""


def _inside(folder: Path, filename: str) -> str | None:
    """Return the file's path within the folder, or None for a file outside it."""
    path = Path(filename)
    for file, root in ((path, folder.absolute()), (path.resolve(), folder.resolve())):
        if file.is_relative_to(root):
            return str(file.relative_to(root))
    return None


def _text(error: BaseException) -> str:
    """Return the error's text without calling a `__str__` of the method, which may also fail."""
    own = (kind for kind in type(error).__mro__ if kind.__module__.startswith(PACKAGE))
    if any("__str__" in vars(kind) for kind in own):
        return ", ".join(map(repr, error.args))
    return str(error)


def _hint(folder: Path, error: BaseException) -> str:
    name = error.filename if isinstance(error, FileNotFoundError) else None
    if isinstance(name, str) and not Path(name).is_absolute() and (folder / name).exists():
        return f"\n  open it as Path(__file__).parent / {name!r}: a method runs in another folder"
    return ""
