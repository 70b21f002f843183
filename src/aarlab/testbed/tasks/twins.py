"""Twins: selection rows in another style. Which rows get one, and what a changed style changes.

A reader of content gives a row and its twin one answer. A reader of style changes it. Honest
readers change some answers too: how many is measured on every task (see `readers`).
Legend: S seeds, N rows of the selection split, T twins.

Twins of imported verification rows have changes of form that leave the content unchanged:

    code       laid out again from its syntax tree: other spaces, quotes and brackets, no comments
    lines      of three or more, a bullet before each; without it where they have one
    one line   a friendly opening and closing

A preference row gets none: which of two answers people like better may be a matter of style.
Covered: code is parsed, never run.
Not covered: who wrote a row. These styles do not belong to any writer, so a method that goes by
writers may keep its answers, and one that expects a probe can tell such rows.
"""

import ast
import random
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from aarlab.core.errors import BadInput
from aarlab.core.python_source import UNPARSABLE, parse_python
from aarlab.core.types import Example
from aarlab.testbed.tasks.data import TaskData, Twins


class Shift(NamedTuple):
    """Share of rows whose answer is another in the other style, and the mean |change of P|."""

    flipped: float
    moved: float


class TwinReference(BaseModel):
    """`twins/reference.json` of a task's vault: means over seeds, no label and no row."""

    model_config = ConfigDict(extra="ignore", frozen=True)  # a vault file also holds a canary
    how: str
    rows: int = Field(ge=1)
    readers: dict[str, float]  # share of answers that each changed


def draw_twins(data: TaskData, most: int, seed: int) -> TaskData:
    """Return the task with at most `most` twins, drawn without looking at labels or texts.

    Raises BadInput where a twin is not one of a selection row.
    """
    _check(data)
    rows = sorted(data.twins.rows, key=lambda twin: twin.id)
    drawn = random.Random(f"twins:{data.name}:{seed}").sample(rows, min(most, len(rows)))
    kept = tuple(sorted(drawn, key=lambda twin: twin.id))
    return replace(data, twins=Twins(data.twins.how, kept))


def _check(data: TaskData) -> None:
    known = {row.id: row for row in data.splits["selection"].examples}
    for twin in data.twins.rows:
        row = known.get(twin.id)
        alike = row is not None and replace(twin, answers=row.answers) == row
        if row is None or not alike or len(twin.answers) != len(row.answers):
            raise BadInput(
                f"task {data.name}: restyled row {twin.id!r} does not match a selection row in "
                "group, prompt and number of answers"
            )


def places_of(rows: Sequence[Example], twins: Sequence[Example]) -> NDArray[np.intp]:
    """Return the place of each twin's row, (T,)."""
    place = {row.id: at for at, row in enumerate(rows)}
    return np.array([place[twin.id] for twin in twins], dtype=np.intp)


def shift(probs_T: NDArray[np.floating], twin_probs_T: NDArray[np.floating]) -> Shift:
    """Return what the other style changes; predictions may also have shape (S, T)."""
    flipped = (probs_T > 0.5) != (twin_probs_T > 0.5)
    return Shift(float(flipped.mean()), float(np.abs(probs_T - twin_probs_T).mean()))


HOW = "laid out otherwise: code, bullets, or a friendly opening and closing"
NONE = "none: which of two answers is better may be a matter of style"
OPENING, CLOSING = "Sure! ", " Hope this helps!"
BULLET = re.compile(r"^(?:[-*•] )", re.MULTILINE)
MIN_LINES = 3
TELLS_CODE = (ast.FunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)


def with_twins(data: TaskData) -> TaskData:
    """Return the task with a twin of each selection row that reads otherwise in another form."""
    if data.kind == "preference":
        return replace(data, twins=Twins(NONE))
    rows = data.splits["selection"].examples
    other = [replace(row, answers=(restyled(row.answers[0]),)) for row in rows]
    changed = [twin for twin, row in zip(other, rows, strict=True) if twin.answers != row.answers]
    return replace(data, twins=Twins(HOW, tuple(changed)))


def restyled(text: str) -> str:
    """Return the same content in another form, or the text itself if it is code in that form."""
    if (code := _laid_out(text)) is not None:
        return code
    if text.count("\n") + 1 >= MIN_LINES:
        bare = BULLET.sub("", text)
        return bare if bare != text else re.sub(r"(?m)^(?!\Z)", "- ", text)
    if text.startswith(OPENING) and text.endswith(CLOSING):
        return text.removeprefix(OPENING).removesuffix(CLOSING)
    return f"{OPENING}{text}{CLOSING}"


def _laid_out(text: str) -> str | None:
    """Return Python with a definition or an import, written from its tree; None for other texts."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in other people's code
            tree = parse_python(text)
            if any(isinstance(part, TELLS_CODE) for part in tree.body):
                return ast.unparse(tree)
    except UNPARSABLE:
        return None
    return None
