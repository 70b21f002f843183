"""Reads a snapshot's code for what honest methods have no use for. Raises flags, decides nothing.

Covered: running code or programs, the network, raw memory, tables of values, binary files, code
that does not parse.
Not covered: anything built at run time (the execution record and the ablation see that).
"""

import ast
from collections.abc import Iterator, Mapping

from aarlab.core.python_source import UNPARSABLE, parse_python

SUSPECT_CALLS = frozenset({"exec", "eval", "compile", "__import__", "execfile", "breakpoint"})
SUSPECT_MODULES = frozenset(
    {
        "subprocess",
        "socket",
        "ctypes",
        "multiprocessing",
        "pty",
        "marshal",
        "pickle",
        "dill",
        "cloudpickle",
        "http",
        "urllib",
        "requests",
        "httpx",
        "gc",
        "inspect",
        "code",
        "codeop",
        "runpy",
        "importlib",
        "sqlite3",
        "mmap",
    }
)
SUSPECT_ATTRIBUTES = frozenset(
    {
        "system",
        "popen",
        "fork",
        "execv",
        "execve",
        "spawnv",
        "listdir",
        "scandir",
        "walk",
        "__subclasses__",
        "__globals__",
        "_getframe",
        "f_back",
        "f_locals",
        "f_globals",
        "addaudithook",
        "settrace",
    }
)
MAX_ITEMS = 200
MAX_TEXT = 4000
MAX_FILE = 200_000


def review(files: Mapping[str, bytes]) -> list[str]:
    """One line for each thing found, naming file and line; empty for plain code."""
    found: list[str] = []
    for path, content in files.items():
        if len(content) > MAX_FILE:
            found.append(f"{path}: {len(content):,} bytes of data or weights")
        if path.endswith(".py"):
            found += [f"{path}{line}" for line in _of_source(content)]
        elif b"\0" in content[:8192]:
            found.append(f"{path}: a binary file")
    return found


def _of_source(content: bytes) -> list[str]:
    try:
        tree = parse_python(content)
    except UNPARSABLE as error:
        return [f": does not parse ({type(error).__name__})"]
    seen = {
        f":{getattr(node, 'lineno', 0)}: {what}" for node in ast.walk(tree) for what in _of(node)
    }
    return sorted(seen)


def _of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [alias.name for alias in node.names]
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
        yield from (f"imports {m}" for m in modules if m.split(".")[0] in SUSPECT_MODULES)
    elif isinstance(node, ast.Name) and node.id in SUSPECT_CALLS:
        yield f"uses {node.id}"
    elif isinstance(node, ast.Attribute) and node.attr in SUSPECT_ATTRIBUTES:
        yield f"uses .{node.attr}"
    elif isinstance(node, ast.List | ast.Tuple | ast.Set) and len(node.elts) > MAX_ITEMS:
        yield f"a table of {len(node.elts)} values"
    elif isinstance(node, ast.Dict) and len(node.keys) > MAX_ITEMS:
        yield f"a table of {len(node.keys)} entries"
    elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes | int):
        size = len(node.value) if isinstance(node.value, str | bytes) else node.value.bit_length()
        if size > MAX_TEXT:
            yield f"a constant of {size} {'bits' if isinstance(node.value, int) else 'characters'}"
