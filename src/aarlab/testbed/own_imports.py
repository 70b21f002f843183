"""Import the modules of one method folder so that other folders and libraries never see them.

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
from collections.abc import Iterator, Mapping, Sequence
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
from types import ModuleType
from typing import Any

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
