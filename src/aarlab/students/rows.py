"""Rows as the server names them, on both sides of the socket. Imports no torch.

A client names a row by its number and says whether its answers are swapped. It holds no text. New
texts about a row are templates, which the server fills in (`testbed/students/templates.py`).

Legend: N rows, A answers per row, B bytes of texts, S texts.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import BadInput
from aarlab.core.types import Example
from aarlab.testbed.running.channel import MAX_WORD
from aarlab.testbed.students.templates import WORDS

Arrays = Mapping[str, NDArray[Any]]


def packed(texts: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return texts as two arrays of a message: their UTF-8 bytes (B,) and where each ends (S,)."""
    parts = [text.encode() for text in texts]
    joined = b"".join(parts)
    raw_B = np.frombuffer(joined, "S1") if joined else np.empty(0, "S1")
    return {"texts": raw_B, "ends": np.cumsum([0, *map(len, parts)], dtype=np.int64)[1:]}


def unpacked(arrays: Arrays) -> list[str]:
    """Return the texts of `packed`; raises BadInput for other arrays."""
    raw_B, ends_S = arrays.get("texts"), arrays.get("ends")
    if raw_B is None or raw_B.dtype != "S1" or raw_B.ndim != 1:
        raise BadInput("texts: expected the bytes of all texts, one after the other")
    if ends_S is None or ends_S.dtype != np.int64 or ends_S.ndim != 1:
        raise BadInput("ends: expected where each text ends")
    bounds = np.concatenate([[0], ends_S])
    if (np.diff(bounds) < 0).any() or bounds[-1] != len(raw_B):
        raise BadInput("ends: they do not divide the texts")
    joined = raw_B.tobytes()
    try:
        return [joined[a:b].decode() for a, b in pairwise(bounds.tolist())]
    except UnicodeDecodeError:
        raise BadInput("texts: not UTF-8") from None


def packed_rows(rows: Sequence[Example]) -> dict[str, NDArray[Any]]:
    """Return rows of one kind as arrays of a message: ids, groups, prompts and answers in turn."""
    return packed([text for r in rows for text in (r.id, r.group, r.prompt, *r.answers)])


def unpacked_rows(arrays: Arrays, n_answers: int) -> tuple[Example, ...]:
    """Return the rows of `packed_rows`.

    Raises BadInput for empty texts, ids that are too long for a message, and double ids.
    """
    texts, size = unpacked(arrays), 3 + n_answers
    if n_answers not in WORDS or not texts or len(texts) % size:
        raise BadInput("rows: expected id, group, prompt and one or two answers of each")
    rows = tuple(
        Example(texts[at], texts[at + 1], texts[at + 2], tuple(texts[at + 3 : at + size]))
        for at in range(0, len(texts), size)
    )
    for number, row in enumerate(rows):
        if not row.id or not row.prompt or not all(answer.strip() for answer in row.answers):
            raise BadInput(f"row {number}: an empty id, prompt or answer")
        if max(len(row.id.encode()), len(row.group.encode())) > MAX_WORD:
            raise BadInput(f"row {number}: an id or group of over {MAX_WORD} bytes")
        if row.id.endswith("\0") or row.group.endswith("\0"):
            raise BadInput(f"row {number}: an id or group that ends with a zero")
    if len({row.id for row in rows}) != len(rows):
        raise BadInput("rows: an id is there twice")
    return rows
