"""Parsing Python source in a process of several threads."""

import ast
import threading

UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError)  # what foreign source raises
_ONE_AT_A_TIME = threading.Lock()


def parse_python(source: str | bytes) -> ast.Module:
    """Return the syntax tree. Raises what `ast.parse` raises: one of UNPARSABLE.

    One thread at a time: CPython 3.11 counts the depth of all trees that are being built in one
    place and raises SystemError when two threads build at once (its issue 106905).
    """
    with _ONE_AT_A_TIME:
        return ast.parse(source)
