"""Types that all packages share. An Example has no label field: targets are passed separately."""

from dataclasses import dataclass, replace
from typing import Literal

from aarlab.core.errors import TextsWithheld
from aarlab.core.hashing import sha256_hex

TaskKind = Literal["preference", "verification"]
Split = Literal["teacher", "train", "train_hidden", "search", "selection", "certify"]

EVAL_SPLITS: tuple[Split, ...] = ("search", "selection", "certify")
NEEDED_SPLITS: tuple[Split, ...] = ("teacher", "train", *EVAL_SPLITS)  # every task has these
# The order fixes the random draws of each split: a new one goes to the end.
ALL_SPLITS: tuple[Split, ...] = (*NEEDED_SPLITS, "train_hidden")


@dataclass(frozen=True, slots=True)
class Example:
    """One input row.

    Two answers: a preference row, target 1 means the first is better. One answer: a verification
    row, target 1 means the answer is right.
    """

    id: str
    group: str
    prompt: str
    answers: tuple[str, ...]

    @property
    def kind(self) -> TaskKind:
        return "preference" if len(self.answers) == 2 else "verification"

    @property
    def keys(self) -> tuple[str, ...]:
        """Return one key per answer, under which the strong model's features of it are found."""
        before = f"{len(self.prompt)}:{self.prompt}"
        return tuple(sha256_hex(before + answer)[:32] for answer in self.answers)

    def swapped(self) -> "Example":
        """Return the row with its answers in the other order."""
        return replace(self, answers=self.answers[::-1])


class BlindRow(Example):
    """A row of a verified run: an id and keys drawn for one delivery, and no text.

    `group` is an opaque word for train rows and empty for rows to predict. Reading `prompt` or
    `answers` raises TextsWithheld.
    """

    __slots__ = ("_keys",)
    _keys: tuple[str, ...]

    def __init__(self, id: str, group: str, keys: tuple[str, ...]) -> None:
        for name, value in (("id", id), ("group", group), ("_keys", keys)):
            object.__setattr__(self, name, value)

    @property
    def kind(self) -> TaskKind:
        return "preference" if len(self._keys) == 2 else "verification"

    @property
    def keys(self) -> tuple[str, ...]:
        return self._keys

    @property
    def prompt(self) -> str:
        raise TextsWithheld("prompt")

    @property
    def answers(self) -> tuple[str, ...]:
        raise TextsWithheld("answers")

    def swapped(self) -> "BlindRow":
        return BlindRow(self.id, self.group, self._keys[::-1])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlindRow) and (self.id, self._keys) == (other.id, other._keys)

    def __hash__(self) -> int:
        return hash((self.id, self._keys))

    def __repr__(self) -> str:
        return f"BlindRow({self.id!r})"

    def __reduce__(self) -> tuple[type["BlindRow"], tuple[str, str, tuple[str, ...]]]:
        return BlindRow, (self.id, self.group, self._keys)
