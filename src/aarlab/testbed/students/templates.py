"""New texts about a row: templates, which are filled in where the texts are.

Fields are `{prompt}`, `{answer}` (of a row with one), `{first}` and `{second}` (of a row with two),
and `{text}` to `{text4}` for generated texts. A template row is a row: it has states and
log-likelihoods, and students learn from it.

Covered: other fields, attributes, conversions and format specifications are refused, as are
templates and filled texts that are too long.
Not covered: the log-likelihoods of a template's words tell what the model reads in the texts.
"""

import string
from collections.abc import Sequence
from dataclasses import dataclass

from aarlab.core.errors import BadInput
from aarlab.core.types import Example

MAX_TEMPLATE, MAX_FIELDS, MAX_WORD_LENGTH = 4_000, 16, 200  # characters, fields, characters
MAX_FILLED, MAX_FILLED_ALL = 100_000, 2**26  # characters of a filled template, of those of a call
ASKED, ASKED_CHARACTERS = 12, 6_000  # different templates of a verified run, all their characters
TEXTS = ("text", "text2", "text3", "text4")
FIELDS: dict[int, tuple[str, ...]] = {1: ("prompt", "answer"), 2: ("prompt", "first", "second")}
WORDS: dict[int, tuple[str, ...]] = {1: (" Yes", " No"), 2: (" A", " B")}


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
        words = self._turned(self.words_of(len(row.answers)))
        return Example(row.id, row.group, filled, words or row.answers)

    @property
    def facts(self) -> tuple[str, tuple[str, ...] | None, bool]:
        """Return what it is, for digests."""
        return self.text, self.words, self.swapped

    def words_of(self, n_answers: int) -> tuple[str, ...]:
        """Return what may follow the text of a row, empty where its answers do."""
        return WORDS[n_answers] if self.words is None else self.words

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
