"""Method folders: `method.py` with `fit(task, student, seed)`, and the files it needs.

Import and run a folder's code so that nothing of it is left in `sys.path` or `sys.modules` for the
next one. See `own_imports` for how a folder's modules are found.
"""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from aarlab.core.errors import AarlabError, BadInput, MethodFailed
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


class OwnFailure(MethodFailed):
    """A method's failure whose message already ends with the author's own lines."""


@dataclass(frozen=True, slots=True)
class OwnPredictor:
    """What a folder's `fit` returned. Its errors are MethodFailed with the author's lines.

    `where` names the author's line that defines `predict_proba`, for rules that the values break.
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
    """An imported method folder. Calls into it see its modules; no other code does."""

    folder: Path
    module: ModuleType
    imports: OwnImports = field(repr=False)

    def fit(self, task: "TrainTask", student: "StudentFactory", seed: int) -> Any:
        """Return a predictor; raises MethodFailed with the author's lines."""

        def fitted() -> Any:
            predictor = self.module.fit(task, student, seed)
            keeps = callable(getattr(predictor, "predict_proba", None))
            return OwnPredictor(self, predictor) if keeps else predictor

        return self.call(fitted)

    def call(self, action: Callable[[], Result]) -> Result:
        """Run the folder's code; whatever it raises becomes MethodFailed."""

        def visit() -> Result:
            with self.imports.visiting():
                return action()

        return guarded(self.folder, visit)

    def line_of(self, function: object) -> str:
        """ "\\n  method.py:7 in predict_proba", or nothing for code of another place."""
        code = getattr(getattr(function, "__func__", function), "__code__", None)
        if not isinstance(code, CodeType):
            return ""
        place = _inside(self.folder, code.co_filename)
        return "" if place is None else f"\n  {place}:{code.co_firstlineno} in {code.co_name}"


def load_method(folder: Path) -> OwnMethod:
    """Import `method.py`; raises MethodFailed when that fails or when it defines no `fit`."""
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
    """Call foreign code; whatever it raises becomes MethodFailed with the author's own lines."""
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
    """The author's frames of an error, innermost last, one line each: `method.py:7 in fit: ...`."""
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
    """The file's path within the folder, None for a file of another place."""
    path = Path(filename)
    for file, root in ((path, folder.absolute()), (path.resolve(), folder.resolve())):
        if file.is_relative_to(root):
            return str(file.relative_to(root))
    return None


def _text(error: BaseException) -> str:
    """Without calling a `__str__` of the method's own, which may fail too."""
    own = (kind for kind in type(error).__mro__ if kind.__module__.startswith(PACKAGE))
    if any("__str__" in vars(kind) for kind in own):
        return ", ".join(map(repr, error.args))
    return str(error)


def _hint(folder: Path, error: BaseException) -> str:
    name = error.filename if isinstance(error, FileNotFoundError) else None
    if isinstance(name, str) and not Path(name).is_absolute() and (folder / name).exists():
        return f"\n  open it as Path(__file__).parent / {name!r}: a method runs in another folder"
    return ""
