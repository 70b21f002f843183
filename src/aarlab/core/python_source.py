"""Parsing Python source in a process of several threads."""

import ast
import threading

UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError)  # what foreign source raises
_ONE_AT_A_TIME = threading.Lock()
_TRIES = 100


def parse_python(source: str | bytes) -> ast.Module:
    """Return the syntax tree. Raises what `ast.parse` raises: one of UNPARSABLE.

    CPython 3.11 counts the depth of all trees that are being built in one place and raises
    SystemError when two threads build at once (its issue 106905). The lock keeps our own threads
    apart. The standard library parses too, for the carets of a traceback: a tree that met another
    one is built again.
    """
    for _ in range(_TRIES - 1):
        try:
            with _ONE_AT_A_TIME:
                return ast.parse(source)
        except SystemError:
            continue
    return ast.parse(source)
