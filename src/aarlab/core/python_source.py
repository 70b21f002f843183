"""Parsing Python source in a process of several threads."""

import ast
import gc
import threading

UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError)  # what foreign source raises
_ONE_AT_A_TIME = threading.Lock()  # so that no thread switches collection on under another


def parse_python(source: str | bytes) -> ast.Module:
    """Return the syntax tree. Raises what `ast.parse` raises: one of UNPARSABLE.

    CPython 3.11 counts the depth of all trees that are being built in one place and raises
    SystemError when two threads build at once (its issue 106905). A tree is built without bytecode,
    and so without a switch of threads, but for the finalizers of garbage that is collected in
    between. Collection therefore waits. Code that parses by itself, as the standard library does
    for the carets of a traceback, can then be disturbed but cannot disturb.
    """
    with _ONE_AT_A_TIME:
        collects = gc.isenabled()
        gc.disable()
        try:
            return ast.parse(source)
        finally:
            if collects:
                gc.enable()
