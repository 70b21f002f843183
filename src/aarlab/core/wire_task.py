"""What a client without the task's files receives of a task: facts, rows, weak labels and texts.

Rows and weak labels are those of the public folder. The only splits here are train and search, and
no field holds a true label.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, FiniteFloat

from aarlab.core.types import TaskKind
from aarlab.core.wire import MethodPath, Run, Score, SnapshotAbout
from aarlab.core.wire_base import Name, Reference, Wire

PublicSplit = Literal["train", "search"]
MAX_ROWS_ASKED, MAX_LABELS_ASKED = 1_000, 10_000
MAX_FILES, MAX_FILE_CHARS = 100, 2_000_000
MAX_TRIAL_SEEDS = 8
LABEL_MEANING: dict[TaskKind, str] = {
    "verification": "one answer a row; label 1: the answer is right, label 0: it is wrong",
    "preference": "two answers a row; label 1: the first is better, label 0: the second is",
}


class TaskFacts(Wire):
    """A development task as AARs see it, less the settings that it was made with."""

    name: Name
    kind: TaskKind
    title: str
    description: str
    pair: str = Field(description="weak and strong model")
    label_meaning: str
    n_train: int = Field(description="rows with weak labels, on which students train")
    n_search: int = Field(description="rows without labels, for quick feedback")
    teacher_seeds: list[int] = Field(description="seeds of the public weak teachers")
    content_hash: str = Field(description="sha256 over the public inputs and weak labels")


class InputRow(Wire):
    id: str
    group: str = Field(description="rows of one problem share it")
    prompt: str
    answers: list[str] = Field(description="one text (verification) or two (preference)")


class RowPage(Wire):
    """Rows of a split in their order. `next_after` is None on the last page."""

    task: Name
    split: PublicSplit
    total: int = Field(description="rows of the split")
    rows: list[InputRow]
    next_after: int | None = Field(description="give it back as `after` for the next page")


class WeakLabelPage(Wire):
    """P(label 1) by one weak teacher, for train rows in their order, to six decimals."""

    task: Name
    teacher_seed: int
    teacher_seeds: list[int] = Field(description="the public weak teachers there are")
    total: int = Field(description="train rows")
    ids: list[str]
    probs: list[float] = Field(description="in the order of `ids`")
    next_after: int | None = Field(description="give it back as `after` for the next page")


class Text(Wire):
    text: str = Field(description="Markdown")


class Note(Wire):
    name: str
    text: str = Field(description="Markdown")


class Library(Wire):
    name: str
    version: str


class TextFile(Wire):
    """A file of a method folder, as text."""

    path: MethodPath
    text: Annotated[str, Field(max_length=MAX_FILE_CHARS)] = Field(
        description="the whole file, UTF-8"
    )


class NewTextSnapshot(SnapshotAbout):
    """A method folder as text: what `NewSnapshot` is in base64."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "confident labels",
                    "message": "drops rows with p in .25-.75",
                    "files": [{"path": "method.py", "text": "def fit(task, student, seed): ..."}],
                }
            ]
        }
    )
    files: list[TextFile] = Field(
        min_length=1, max_length=MAX_FILES, description="method.py and what it needs"
    )
    keep_parent_files: bool = Field(
        default=False, description="take over the parent's files that `files` does not name"
    )


class MethodContract(Wire):
    """What a method must be, one that works, and what it can import where it is run."""

    text: str = Field(description="Markdown: the contract")
    example: list[TextFile] = Field(description="a whole method folder that keeps the contract")
    python: str
    libraries: list[Library] = Field(description="installed where the platform runs methods")
    rules: list[str]


class CodeFile(Wire):
    path: str
    text: str | None = Field(description="None: no UTF-8 text, or too long to show; see `omitted`")
    omitted: Literal["", "binary", "too large"] = ""
    n_bytes: int


# ---------------------------------------------------------------- runs in the platform's sandbox
class MethodFault(Wire):
    """One thing that a check found: a violation is refused or flagged, a note is advice."""

    level: Literal["violation", "note"]
    kind: str = Field(description="kind of rows on which it was found")
    what: str
    mend: str = Field(description="how to put it right")


class NewCheck(Wire):
    """Which method to check: files, or a snapshot of the team. One of both."""

    files: list[TextFile] = Field(
        default=[], max_length=MAX_FILES, description="method.py and what it needs"
    )
    snapshot: Reference | None = Field(default=None, description="or the id of a snapshot")


class MethodCheck(Wire):
    """What came of running a method on toy tasks; empty `error`: it ran to its end."""

    keeps_contract: bool
    findings: list[MethodFault]
    error: str = ""
    seconds: FiniteFloat = Field(description="device seconds that were booked")


class NewTrial(Wire):
    """Runs a snapshot of the team on a development task's public rows."""

    snapshot: Reference = Field(description="id of a snapshot")
    task: Name | None = Field(default=None, description="needed where there are several")
    seeds: Annotated[int, Field(ge=1, le=MAX_TRIAL_SEEDS)] = Field(
        default=2, description="runs; the public weak teachers take turns"
    )
    first_seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(default=0, description="of the runs")
    submit: bool = Field(
        default=False, description="also submit the predictions; costs one submission"
    )
    show_predictions: bool = Field(default=False, description="return the predictions too")


class SeedFacts(Wire):
    """One run: what it cost, and what can be said of it without labels."""

    seed: int
    teacher_seed: int
    seconds: FiniteFloat
    compute: dict[str, FiniteFloat]
    diagnostics: dict[str, FiniteFloat]


class Trial(Wire):
    """What came of a trial; empty `error`: it ran to its end."""

    task: Name
    snapshot: str
    error: str = ""
    seconds: FiniteFloat = Field(description="device seconds that were booked")
    n_rows: int = 0
    seeds: list[SeedFacts] = Field(default=[])
    ids: list[str] = Field(default=[], description="with show_predictions")
    runs: list[Run] = Field(default=[], description="with show_predictions")
    score: Score | None = Field(default=None, description="with submit")
    refused: str = Field(default="", description="why the predictions could not be submitted")
