"""Public data sets that are fetched whole, by name: declared in named.yaml.

A set says which files of a repository at which commit it reads, with the sha256 of each, under
which licence, and by which rules (`forms.py`) they become rows. Not covered: sets of the Hugging
Face hub, whose rows fit a mapping (`mapping.py`).
"""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aarlab.core.errors import BadInput
from aarlab.core.foreign_yaml import read_yaml
from aarlab.core.options import explain
from aarlab.core.types import TaskKind

Form = Literal["statement_pairs", "statements", "ordered_pairs", "choices"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Files = Annotated[dict[str, Sha256], Field(min_length=1)]
Words = Annotated[tuple[int, int], Field(description="fewest and most words of a text")]


class PublicSource(BaseModel):
    """A repository at a commit, its licence and whom to credit."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    repo: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    licence: str
    licence_url: str
    licence_file: Annotated[dict[str, Sha256], Field(min_length=1, max_length=1)]
    credit: str

    @property
    def url(self) -> str:
        return f"https://github.com/{self.repo}"

    @property
    def clone(self) -> str:
        """Return the command that makes a local copy of the pinned commit."""
        name = self.repo.partition("/")[2]
        return f"git clone {self.url} && git -C {name} checkout {self.commit}"


class RowCounts(BaseModel):
    """Rows of each file of the folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    train_label: Annotated[int, Field(gt=0)]
    train_unlabel: Annotated[int, Field(gt=0)]
    train_hidden: Annotated[int, Field(gt=0)]
    test: Annotated[int, Field(gt=0)]

    def by_file(self) -> dict[str, int]:
        return self.model_dump()


class NamedSet(BaseModel):
    """One set.

    `files` maps paths in the repository to their sha256. `matching_is_better` names the files,
    without folder and suffix, in which the answer that matches the behaviour is the better one.
    Texts that share `shared_percent` of their word trigrams are of one group, and so are pairs with
    a scenario or its `first_words` in common. `pairs` are the counts of the pairs that single
    statements are taken from. `task` is written to task.yaml as it is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    source: PublicSource
    form: Form
    title: str
    prompt: str | None = None
    prompt_words: Words = (1, 1000)
    answer_words: Words
    shared_percent: Annotated[int, Field(gt=0, le=100)] | None = None
    first_words: Annotated[int, Field(gt=0)] | None = None
    most_in_group: Annotated[int, Field(gt=0)] | None = None
    matching_is_better: tuple[str, ...] = ()
    pairs: RowCounts | None = None
    rows: RowCounts
    task: dict[str, Any]
    caveats: tuple[str, ...] = ()
    files: Files

    @property
    def kind(self) -> TaskKind:
        return "verification" if self.form == "statements" else "preference"

    @property
    def names(self) -> frozenset[str]:
        """Return the values that a row's `source` may have."""
        return frozenset(map(source_name, self.files))

    @model_validator(mode="after")
    def _whole(self) -> "NamedSet":
        if unknown := set(self.matching_is_better) - self.names:
            raise ValueError(f"matching_is_better: no file {', '.join(sorted(unknown))}")
        if len(self.names) < len(self.files):
            raise ValueError("files: two of one name")
        if (self.form == "choices") == (self.prompt is not None):
            raise ValueError("choices have their own prompts, the other forms need one")
        if (self.form == "ordered_pairs") != (self.shared_percent is None):
            raise ValueError("shared_percent is for all forms but ordered_pairs")
        if (self.form == "ordered_pairs") != (self.first_words is not None):
            raise ValueError("first_words is for ordered_pairs, and they need it")
        if (self.form == "statements") != (self.pairs is not None):
            raise ValueError("pairs is for statements, and they need it")
        return self


def source_name(path: str) -> str:
    """Return the name of a source file, which its rows carry as `source`."""
    return PurePosixPath(path).stem


def shipped_sets() -> dict[str, NamedSet]:
    """Return the sets of this package by name."""
    text = files("aarlab.testbed.tasks.datasets").joinpath("named.yaml").read_bytes()
    return parse_sets(text, "named.yaml")


def parse_sets(text: bytes, where: str) -> dict[str, NamedSet]:
    """Return the sets of a YAML text; raises BadInput naming the set and the field."""
    raw = read_yaml(text, where)
    if not isinstance(raw, dict) or not all(
        isinstance(raw.get(key), dict) for key in ("sources", "sets")
    ):
        raise BadInput(f"{where}: expected sources and sets")
    found = {}
    for name, value in raw["sets"].items():
        try:
            found[str(name)] = NamedSet.model_validate(_with_source(value, raw["sources"]))
        except ValidationError as error:
            raise BadInput(explain(f"{where}: {name}", error)) from error
    return found


def _with_source(value: Any, sources: Mapping[str, Any]) -> Any:
    if not isinstance(value, dict) or not isinstance(value.get("source"), str):
        return value
    return {**value, "source": sources.get(value["source"])}
