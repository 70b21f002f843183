"""Rows as the server names them, on both sides of the socket. Imports no torch.

A client names a row by its number and says whether its answers are swapped. It holds no text. New
texts about a row are templates, which the server fills in: `{prompt}`, `{answer}` (of a row with
one), `{first}` and `{second}` (of a row with two), and `{text}` for a generated text. A template
row is a row: it has states and log-likelihoods, and students learn from it.

Covered: other fields, attributes, conversions and format specifications are refused, as are
templates and filled texts that are too long.
Not covered: the log-likelihoods of a template's words tell what the model reads in the texts.

Legend: N rows, A answers per row, B bytes of texts, S texts.
"""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import BadInput
from aarlab.core.types import Example
from aarlab.testbed.running.channel import MAX_WORD

MAX_TEMPLATE, MAX_FIELDS, MAX_WORD_LENGTH = 4_000, 16, 200  # characters, fields, characters
MAX_FILLED, MAX_FILLED_ALL = 100_000, 2**26  # characters of a filled template, of those of a call
TEXTS = ("text", "text2", "text3", "text4")
FIELDS: dict[int, tuple[str, ...]] = {1: ("prompt", "answer"), 2: ("prompt", "first", "second")}
WORDS: dict[int, tuple[str, ...]] = {1: (" Yes", " No"), 2: (" A", " B")}
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


@dataclass(frozen=True, slots=True)
class Template:
    """A text about a row, and the words that may follow it.

    `words` take the place of the row's answers: None stands for Yes and No, or A and B. Without any
    the answers themselves follow the text. `swapped` shows the answers of a row with two in the
    other order, and turns the words, so that the first one still means label 1.
    """

    text: str
    words: tuple[str, ...] | None = None
    swapped: bool = False

    def check(self, n_answers: int, n_texts: int = 0) -> None:
        """Raise BadInput unless the template can be filled in for rows of this kind."""
        if not self.text.strip() or len(self.text) > MAX_TEMPLATE:
            raise BadInput(f"template: expected 1 to {MAX_TEMPLATE:,} characters")
        known = (*FIELDS[n_answers], *TEXTS[:n_texts])
        names = [name for _, name in self._parts() if name is not None]
        if len(names) > MAX_FIELDS or not names:
            raise BadInput(f"template: expected 1 to {MAX_FIELDS} fields, got {len(names)}")
        if unknown := [name for name in names if name not in known]:
            fields = ", ".join(f"{{{name}}}" for name in known)
            raise BadInput(
                f"template: no field {unknown[0][:40]!r}; rows of this kind have {fields}"
            )
        words = self.words or ()
        if len(words) > 2 or not all(0 < len(w.strip()) <= MAX_WORD_LENGTH for w in words):
            raise BadInput(f"words: expected up to 2 of at most {MAX_WORD_LENGTH} characters")
        if self.swapped and n_answers != 2:
            raise BadInput("swapped: this row has one answer")

    def fill(self, row: Example, texts: Sequence[str] = ()) -> Example:
        """Return the row with its text filled in; `check` first. Raises BadInput if too long."""
        shown = row.swapped() if self.swapped else row
        values = dict(zip(FIELDS[len(row.answers)], (row.prompt, *shown.answers), strict=True))
        values |= dict(zip(TEXTS, texts, strict=False))
        filled = "".join(
            plain + ("" if name is None else values[name]) for plain, name in self._parts()
        )
        if len(filled) > MAX_FILLED:
            raise BadInput(f"template: filled in it has over {MAX_FILLED:,} characters")
        words = WORDS[len(row.answers)] if self.words is None else self.words
        return Example(row.id, row.group, filled, self._turned(words) or row.answers)

    def fill_all(self, rows: Sequence[Example], texts_NK: Sequence[Sequence[str]]) -> list[Example]:
        """Return all rows with their texts filled in; BadInput once they are too long together."""
        made, n_left = list[Example](), MAX_FILLED_ALL
        for row, texts in zip(rows, texts_NK, strict=True):
            made.append(self.fill(row, texts))
            n_left -= len(made[-1].prompt)
            if n_left < 0:
                raise BadInput(
                    f"template: filled in it has over {MAX_FILLED_ALL:,} characters in all; "
                    "ask for fewer rows at once"
                )
        return made

    def _turned(self, words: tuple[str, ...]) -> tuple[str, ...]:
        return words[::-1] if self.swapped else words

    def _parts(self) -> list[tuple[str, str | None]]:
        """Return plain text, and the field after it, in turn."""
        try:
            parts = list(string.Formatter().parse(self.text))
        except ValueError as error:
            raise BadInput(f"template: {error}; write {{{{ and }}}} for braces") from None
        if any(spec or conversion for _, _, spec, conversion in parts):
            raise BadInput("template: a field is a name in braces and nothing else")
        return [(plain, name) for plain, name, _, _ in parts]
