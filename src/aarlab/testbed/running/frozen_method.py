"""A user's method folder, read once: what a campaign's spec and a verification keep of it.

Covered: links, hidden files and bytecode are left out. Size, number and names of files have the
limits of a snapshot. Faults that are visible without running the code are given with file and line.
"""

import ast
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aarlab.core.errors import BadInput, NotFound
from aarlab.core.hashing import content_hash, sha256_hex
from aarlab.core.python_source import UNPARSABLE, parse_python
from aarlab.testbed.methods import METHODS, installed_folder
from aarlab.testbed.methods.named_method import named_files
from aarlab.testbed.recipes.recipe import RECIPE_FILE, recipe_from_json
from aarlab.testbed.running.method_folder import method_source

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}")
MAX_FILES, MAX_BYTES = 200, 1_000_000
ENTRY = "method.py"


@dataclass(frozen=True, slots=True)
class FrozenMethod:
    """A method's files by relative path. Later edits of the folder have no effect."""

    name: str
    files: dict[str, bytes]

    @property
    def hash(self) -> str:
        return content_hash({path: sha256_hex(data) for path, data in sorted(self.files.items())})


def folder_at(path: Path, name: str) -> Path:
    """Return the folder at this path; if there is none, that of the installed method `name`."""
    named = None if path.is_dir() else installed_folder(name)
    return path if named is None else named


def freeze(folder: Path) -> FrozenMethod:
    """Read a folder. Raises NotFound or BadInput naming folder, file, line and reason."""
    name = folder.resolve().name
    if not folder.is_dir():
        raise NotFound(f"no method folder {folder}; aarlab method new {folder} makes one")
    checked_name(name)
    paths = sorted(_files(folder))
    _check_size(name, len(paths), sum(path.stat().st_size for path in paths))
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    frozen = FrozenMethod(name, files)
    if found := next(faults(frozen), None):
        raise BadInput(found)
    return frozen


def reads_texts(files: Mapping[str, bytes]) -> bool:
    """Return whether `method.py` says READS_TEXT = True, without running it.

    Such a method is verified in the open class. Only a plain assignment at the top level counts.
    """
    try:
        tree = parse_python(files.get(ENTRY, b""))
    except UNPARSABLE:
        return False
    said = False
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        if any(isinstance(one, ast.Name) and one.id == "READS_TEXT" for one in targets):
            value = getattr(node, "value", None)
            said = isinstance(value, ast.Constant) and value.value is True
    return said


def is_built_in(files: Mapping[str, bytes]) -> bool:
    """Return whether the code is the platform's own: a built-in method, or a recipe.

    Docstring, comments and layout of a recipe's `method.py` may differ. Any other file makes the
    code one's own.
    """
    try:
        texts = {path: data.decode("utf-8") for path, data in files.items()}
        if texts.keys() == {ENTRY}:
            return any(texts == named_files(name) for name in METHODS)
        if texts.keys() != {ENTRY, RECIPE_FILE}:
            return False
        recipe = recipe_from_json(texts[RECIPE_FILE])
        return _plain(files[ENTRY]) == _plain(method_source(recipe).encode())
    except (BadInput, UnicodeDecodeError, *UNPARSABLE):
        return False


def _plain(source: bytes) -> str:
    tree = parse_python(source)
    body = tree.body[1:] if ast.get_docstring(tree) is not None else tree.body
    return ast.dump(ast.Module(body, []))


def freeze_all(folders: Sequence[Path]) -> list[FrozenMethod]:
    """Freeze folders of different names. Raises BadInput where two have the same name."""
    frozen: dict[str, FrozenMethod] = {}
    for folder in folders:
        one = freeze(folder)
        if one.name in frozen:
            raise BadInput(f"two method folders are called {one.name}: rename one")
        frozen[one.name] = one
    return list(frozen.values())


def checked_name(name: str) -> str:
    """Return the name. Raises BadInput if it is not short and plain, or is a built-in method's."""
    if not NAME.fullmatch(name):
        raise BadInput(
            f"method folder {name!r}: its name is shown in tables; use 1-40 of a-z 0-9 _ . - "
            "starting with a letter or digit"
        )
    if name in METHODS:
        raise BadInput(
            f"method folder {name!r}: a built-in method has this name; rename the folder"
        )
    return name


def faults(method: FrozenMethod) -> Iterator[str]:
    """Yield one line per fault that prevents the method from running, without running it.

    Raises BadInput if there are too many files or bytes, or file names that are not allowed.
    """
    _check_size(method.name, len(method.files), sum(map(len, method.files.values())))
    for path in method.files:
        _check_path(method.name, path)
    if ENTRY not in method.files:
        yield f"{method.name}: there is no {ENTRY}"
        return
    trees: dict[str, ast.Module] = {}
    for path, data in method.files.items():
        if path.endswith(".py"):
            try:
                trees[path] = parse_python(data)
            except SyntaxError as error:
                yield f"{method.name}/{path}:{error.lineno}: SyntaxError: {error.msg}"
            except (ValueError, RecursionError, MemoryError) as error:
                yield f"{method.name}/{path}: does not parse ({type(error).__name__}: {error})"
    if ENTRY in trees:
        yield from _faults_of_fit(f"{method.name}/{ENTRY}", trees[ENTRY])


def _faults_of_fit(where: str, tree: ast.Module) -> Iterator[str]:
    for node in reversed(tree.body):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == "fit":
            given = node.args
            plain = len(given.posonlyargs) + len(given.args)
            needed = plain - len(given.defaults)
            more = [
                a for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True) if d is None
            ]
            if needed > 3 or more or (plain < 3 and given.vararg is None):
                yield f"{where}:{node.lineno}: define fit(task, student, seed)"
            return
    if not any(_names_fit(node) for node in ast.walk(tree)):
        yield f"{where}: defines no function fit(task, student, seed)"


def _names_fit(node: ast.AST) -> bool:
    if isinstance(node, ast.alias):
        return (node.asname or node.name) in ("fit", "*")
    if isinstance(node, ast.FunctionDef):
        return node.name == "fit"
    return isinstance(node, ast.Name) and node.id == "fit" and isinstance(node.ctx, ast.Store)


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name == "__pycache__" or path.is_symlink():
            continue
        if path.is_dir():
            yield from _files(path)
        elif path.is_file():
            yield path


def _check_size(name: str, n_files: int, n_bytes: int) -> None:
    if n_files > MAX_FILES:
        raise BadInput(f"{name}: {n_files} files; a method has at most {MAX_FILES}")
    if n_bytes > MAX_BYTES:
        raise BadInput(
            f"{name}: {n_bytes:,} bytes; a method has at most {MAX_BYTES:,}: leave data and "
            "weights out"
        )


def _check_path(name: str, path: str) -> None:
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in path or len(path) > 200:
        raise BadInput(f"{name}: file name {path!r}: use a short relative path inside the folder")
    plain = unicodedata.normalize("NFC", path) == path
    if not plain or any(unicodedata.category(char).startswith("C") for char in path):
        raise BadInput(f"{name}: file name {path!r}: use plain letters")
