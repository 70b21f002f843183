"""Method folders: `method.py` with `fit(task, student, seed)`, and the files it needs.

A folder's code is imported and run so that it leaves nothing in `sys.path` or `sys.modules` for the
next folder. Other folders and libraries never see its modules.

A folder's modules live in a package of their own (`aarlab_method_0.helper`). An `import helper` in
the folder's code looks into the folder first, at import and inside functions. Other code never
does, so a method's `random.py` hides the standard library's from that method only.

Covered: helpers, packages and relative imports, and lazy imports while a predictor runs. Changes of
`sys.path`, `sys.modules` and the working directory are undone after each call. `sys.path` and
modules that the method added or replaced are set again for its next call. No bytecode is read or
written next to a method.
Not covered: attributes that a method replaces in shared modules (`numpy.mean = ...`).
"""

import builtins
import contextlib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
)
from itertools import count
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from aarlab.core.errors import AarlabError, MethodFailed
from aarlab.core.files import write_atomic

if TYPE_CHECKING:
    from aarlab.core.types import Example
    from aarlab.testbed.recipes.recipe import Recipe
    from aarlab.testbed.students.student import StudentFactory
    from aarlab.testbed.tasks.train_task import TrainTask


PACKAGE = "aarlab_method_"  # followed by a number


class _Loader(SourceFileLoader):
    """A loader that always compiles from source and gives the code its own `__import__`."""

    def __init__(self, name: str, path: str, own_builtins: dict[str, Any]) -> None:
        super().__init__(name, path)
        self._builtins = own_builtins

    def path_stats(self, path: str) -> Mapping[str, Any]:
        raise OSError("no bytecode: a file changed within a second would run as it was")

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = self._builtins
        super().exec_module(module)


class OwnImports:
    """The modules of one folder. Use `load` to import one, and `visiting` to run their code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.package = next(n for i in count() if (n := f"{PACKAGE}{i}") not in sys.modules)
        root = ModuleType(self.package)
        root.__path__ = [str(folder)]
        sys.modules[self.package] = root
        self._builtins = {**vars(builtins), "__import__": self._import}
        self._path: list[str] | None = None
        self._modules: dict[str, ModuleType] = {}

    def load(self, name: str) -> ModuleType:
        with self._finding():
            return importlib.import_module(f"{self.package}.{name}")

    def forget(self) -> None:
        """Remove the folder's package from `sys.modules`."""
        for name in [n for n in sys.modules if f"{n}.".startswith(f"{self.package}.")]:
            del sys.modules[name]

    @contextlib.contextmanager
    def visiting(self) -> Iterator[None]:
        """Set `sys.path` and `sys.modules` as the folder's code left them; restore them on exit.

        The working directory is restored too.
        """
        path, modules, place = list(sys.path), dict(sys.modules), _working_folder()
        sys.path[:] = self._path or [*(p or place for p in path), str(self.folder)]
        sys.modules.update(self._modules)
        try:
            yield
        finally:
            self._path = list(sys.path)
            sys.path[:] = path
            self._put_aside(modules)
            if _working_folder() != place:
                with contextlib.suppress(OSError):
                    os.chdir(place)

    def _put_aside(self, before: Mapping[str, ModuleType]) -> None:
        """Restore `sys.modules`, keeping what the method added or replaced for its next call.

        Libraries that it imported stay.
        """
        for name, module in list(sys.modules.items()):
            if name in before and before[name] is module:
                continue
            if name not in before and not self._is_own(name, module):
                continue
            self._modules[name] = module
            if name in before:
                sys.modules[name] = before[name]
            else:
                del sys.modules[name]
        for name in before.keys() - sys.modules.keys():
            sys.modules[name] = before[name]

    def _is_own(self, name: str, module: object) -> bool:
        """Return whether the module is a folder file under another name, or was made by hand."""
        if f"{name}.".startswith(f"{self.package}."):
            return False
        file, spec = getattr(module, "__file__", None), getattr(module, "__spec__", None)
        if isinstance(file, str):
            return Path(file).is_relative_to(self.folder)
        places = list(getattr(module, "__path__", ()))
        return spec is None or any(Path(p).is_relative_to(self.folder) for p in places)

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Import as `__import__` does, but look for the folder's modules first."""
        top = name.partition(".")[0]
        own = level == 0 and self._has(top)
        with self._finding():
            if not own:
                return builtins.__import__(name, globals, locals, fromlist or (), level)
            inner = f"{self.package}.{name}"
            if fromlist:
                return builtins.__import__(inner, globals, locals, fromlist, 0)
            importlib.import_module(inner)
            return sys.modules[f"{self.package}.{top}"]

    def _has(self, top: str) -> bool:
        """Return whether the folder has a module or package of this name.

        A package without `__init__.py` counts only where no library has its name.
        """
        place = self.folder / top
        files = [f"{top}{suffix}" for suffix in (*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES)]
        if any((self.folder / file).is_file() for file in files):
            return True
        if not place.is_dir() or (place / "__init__.py").is_file():
            return place.is_dir()
        if top in sys.modules:
            return False
        spec = importlib.util.find_spec(top)
        return spec is None or str(place) in (spec.submodule_search_locations or ())

    @contextlib.contextmanager
    def _finding(self) -> Iterator[None]:
        sys.meta_path.insert(0, self)
        try:
            yield
        finally:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find modules of this folder's package only, as a finder of `sys.meta_path`."""
        if not fullname.startswith(f"{self.package}."):
            return None

        def source(name: str, file: str) -> _Loader:
            return _Loader(name, file, self._builtins)

        kinds: Any = ((source, SOURCE_SUFFIXES), (ExtensionFileLoader, EXTENSION_SUFFIXES))
        for place in path or ():
            if (spec := FileFinder(place, *kinds).find_spec(fullname)) is not None:
                return spec
        return None


def _working_folder() -> str:
    """Return the working directory as an absolute path, or "." if it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return "."


Result = TypeVar("Result")
SHOWN_FRAMES = 8
RECIPE_SOURCE = '''"""{title}"""

from pathlib import Path

from aarlab.testbed.recipes.recipe import recipe_from_json
from aarlab.testbed.recipes.run_recipe import run_recipe

RECIPE = recipe_from_json((Path(__file__).parent / "recipe.json").read_text(), "recipe.json")
fit = run_recipe(RECIPE)
'''


def method_source(recipe: "Recipe", title: str = "") -> str:
    """Return the text of the `method.py` that runs the `recipe.json` next to it."""
    plain = (title or recipe.describe()).replace("\\", "").replace('"""', "'''").rstrip('"')
    return RECIPE_SOURCE.format(title=plain)


def recipe_files(recipe: "Recipe", title: str = "") -> dict[str, str]:
    """Return the files of a standalone method folder, by relative path."""
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
