"""Twins of imported verification rows: changes of form that leave the content alone.

    code       laid out anew from its syntax tree: other spaces, quotes and brackets, no comments
    lines      of three or more, a bullet before each; without it where they have one
    one line   a friendly opening and closing

A preference row gets none: which of two answers people like better may be a matter of style.
Covered: code is parsed, never run. Not covered: who wrote a row. These are nobody's styles, so a
method that goes by writers may keep its answers, and one that expects a probe can tell such rows.
"""

import ast
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace

from aarlab.core.python_source import UNPARSABLE, parse_python
from aarlab.core.types import Example
from aarlab.testbed.data import TaskData, Twins

HOW = "laid out otherwise: code, bullets, or a friendly opening and closing"
NONE = "none: which of two answers is better may be a matter of style"
OPENING, CLOSING = "Sure! ", " Hope this helps!"
BULLET = re.compile(r"^(?:[-*•] )", re.MULTILINE)
MIN_LINES = 3
TELLS_CODE = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)


def with_twins(data: TaskData) -> TaskData:
    """The task with a twin of each selection row that reads otherwise in another form."""
    if data.kind == "preference":
        return replace(data, twins=Twins(NONE))
    return replace(data, twins=Twins(HOW, tuple(_twins(data.splits["selection"].examples))))


def _twins(rows: Sequence[Example]) -> list[Example]:
    made = [replace(row, answers=(restyled(row.answers[0]),)) for row in rows]
    return [twin for twin, row in zip(made, rows, strict=True) if twin.answers != row.answers]


def restyled(text: str) -> str:
    """The same content in another form; the text itself where it is code in that form already."""
    if (code := _laid_out(text)) is not None:
        return code
    if text.count("\n") + 1 >= MIN_LINES:
        bare = BULLET.sub("", text)
        return bare if bare != text else re.sub(r"(?m)^(?!\Z)", "- ", text)
    if text.startswith(OPENING) and text.endswith(CLOSING):
        return text.removeprefix(OPENING).removesuffix(CLOSING)
    return f"{OPENING}{text}{CLOSING}"


def _laid_out(text: str) -> str | None:
    """Python with a definition or an import, written from its tree; None for other texts."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in other people's code
            tree = parse_python(text)
            if any(isinstance(part, TELLS_CODE) for part in tree.body):
                return ast.unparse(tree)
    except UNPARSABLE:
        return None
    return None
