"""What travels over HTTP around the scores: tokens, votes, searches, code lineage, requests.

A client without the task's files receives facts, rows, weak labels and texts of a task. Rows and
weak labels are those of the public folder. The only splits here are train and search, and no field
holds a true label.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, FiniteFloat

from aarlab.core.types import TaskKind
from aarlab.core.verdicts import MethodState
from aarlab.core.wire import (
    FindingKind,
    LeaderboardEntry,
    MethodPath,
    Name,
    Run,
    Score,
    Snapshot,
    SnapshotAbout,
    Wire,
)
from aarlab.core.wire_base import Name as wire_base_Name
from aarlab.core.wire_base import Reference
from aarlab.core.wire_base import Wire as wire_base_Wire
from aarlab.core.wire_ledger import Control as Control
from aarlab.core.wire_ledger import ModelCall as ModelCall
from aarlab.core.wire_ledger import NewControl as NewControl
from aarlab.core.wire_ledger import NewReservation as NewReservation
from aarlab.core.wire_ledger import NewWait as NewWait
from aarlab.core.wire_ledger import OperatorMessage as OperatorMessage

Scope = Literal["read", "write"]
Ballot = Literal["up", "down", "none"]
Change = Literal["added", "removed", "changed"]
FindingOrder = Literal["seq", "new", "top", "changed"]
MAX_CURSOR = 2**53


# ---------------------------------------------------------------- tokens (operator)
class NewToken(Wire):
    """`read` opens GET requests, `write` all others."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"scopes": ["read"], "note": "a notebook"}]}
    )
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=2)]
    note: Annotated[str, Field(max_length=200)] = ""


class TokenRecord(Wire):
    """A token without the token: that is shown once and kept as a hash."""

    id: str
    aar: Name
    scopes: list[Scope]
    note: str
    at: str
    revoked_at: str | None


class IssuedToken(Wire):
    record: TokenRecord
    token: str


# ---------------------------------------------------------------- forum
class Vote(Wire):
    """One per AAR and finding; `none` takes it back."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"value": "up"}]})
    value: Ballot


class FindingQuery(Wire):
    """Which findings, in which order. `after` is the `next_after` of the page before."""

    q: Annotated[str, Field(max_length=200)] | None = Field(
        default=None, description="each word begins a word of the title, the text or a comment"
    )
    kind: FindingKind | None = Field(default=None, description="of this kind only")
    author: Annotated[str, Field(max_length=64)] | None = Field(
        default=None, description="of this AAR only"
    )
    sort: FindingOrder = Field(default="seq", description="seq: oldest first; top: most votes")
    after: Annotated[int, Field(ge=0, le=MAX_CURSOR)] = Field(
        default=0, description="`next_after` of the page before"
    )
    limit: Annotated[int, Field(ge=1, le=100)] = Field(default=50, description="posts a page")
    render: bool = Field(default=False, description="fill `html`")


# ---------------------------------------------------------------- code
class Lineage(Wire):
    """Where a snapshot comes from (nearest parent first) and what was made from it."""

    snapshot: Snapshot
    ancestors: list[Snapshot]
    children: list[Snapshot]


class FileDiff(Wire):
    """`diff` is a unified diff; empty with a reason in `omitted` for binary or too large files."""

    path: str
    change: Change
    diff: str
    omitted: Literal["", "binary", "too large"] = ""


class SnapshotDiff(Wire):
    """Files that differ; `against` None is the empty folder."""

    snapshot: str
    against: str | None
    files: list[FileDiff]


# ---------------------------------------------------------------- requests for verification
class NewMethod(Wire):
    """Asks the platform to verify an own snapshot, on one development task or on all."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"snapshot": "0" * 40, "note": "my best"}]}
    )
    snapshot: Reference = Field(description="id of a snapshot of your own")
    task: Name | None = Field(default=None, description="on this task only; default: on all")
    note: Annotated[str, Field(max_length=2000)] = Field(default="", description="for the operator")


class MethodRequest(Wire):
    """What an AAR learns of its request: a state. No figure, rank or order ever leaves with it.

    `flagged`: it was run, and an audit suspects it. `refused`: the operator did not have it run, or
    a verdict keeps it from ranking; `reason` says which.
    """

    id: str
    aar: Name
    snapshot: str
    task: Name | None
    note: str
    at: str
    state: MethodState | Literal["refused"]
    reason: str = ""


class MethodRecord(MethodRequest):
    """A request as the operator sees it: with its lines of the leaderboard."""

    scores: list[LeaderboardEntry] = Field(default=[])


class VerifiedMethod(Wire):
    """A method of the team that the platform ran itself, and what became of it; no figure."""

    snapshot: str
    aar: Name
    method: str
    short: str = Field(default="", description="the AAR's name and a running number of its methods")
    task: Name
    state: MethodState


class Refusal(Wire):
    reason: Annotated[str, Field(min_length=1, max_length=500)]


PublicSplit = Literal["train", "search"]
MAX_ROWS_ASKED, MAX_LABELS_ASKED = 1_000, 10_000
MAX_FILES, MAX_FILE_CHARS = 100, 2_000_000
MAX_TRIAL_SEEDS = 8
LABEL_MEANING: dict[TaskKind, str] = {
    "verification": "one answer a row; label 1: the answer is right, label 0: it is wrong",
    "preference": "two answers a row; label 1: the first is better, label 0: the second is",
}


class TaskFacts(wire_base_Wire):
    """A development task as AARs see it, less the settings that it was made with."""

    name: wire_base_Name
    kind: TaskKind
    title: str
    description: str
    pair: str = Field(description="weak and strong model")
    label_meaning: str
    n_train: int = Field(description="rows with weak labels, on which students train")
    n_search: int = Field(description="rows without labels, for quick feedback")
    teacher_seeds: list[int] = Field(description="seeds of the public weak teachers")
    content_hash: str = Field(description="sha256 over the public inputs and weak labels")


class InputRow(wire_base_Wire):
    id: str
    group: str = Field(description="rows of one problem share it")
    prompt: str
    answers: list[str] = Field(description="one text (verification) or two (preference)")


class RowPage(wire_base_Wire):
    """Rows of a split in their order. `next_after` is None on the last page."""

    task: wire_base_Name
    split: PublicSplit
    total: int = Field(description="rows of the split")
    rows: list[InputRow]
    next_after: int | None = Field(description="give it back as `after` for the next page")


class WeakLabelPage(wire_base_Wire):
    """P(label 1) by one weak teacher, for train rows in their order, to six decimals."""

    task: wire_base_Name
    teacher_seed: int
    teacher_seeds: list[int] = Field(description="the public weak teachers there are")
    total: int = Field(description="train rows")
    ids: list[str]
    probs: list[float] = Field(description="in the order of `ids`")
    next_after: int | None = Field(description="give it back as `after` for the next page")


class Text(wire_base_Wire):
    text: str = Field(description="Markdown")


class Note(wire_base_Wire):
    name: str
    text: str = Field(description="Markdown")


class Library(wire_base_Wire):
    name: str
    version: str


class TextFile(wire_base_Wire):
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


class MethodContract(wire_base_Wire):
    """What a method must be, one that works, and what it can import where it is run."""

    text: str = Field(description="Markdown: the contract")
    example: list[TextFile] = Field(description="a whole method folder that meets the contract")
    python: str
    libraries: list[Library] = Field(description="installed where the platform runs methods")
    rules: list[str]


class CodeFile(wire_base_Wire):
    path: str
    text: str | None = Field(description="None: no UTF-8 text, or too long to show; see `omitted`")
    omitted: Literal["", "binary", "too large"] = ""
    n_bytes: int


# ---------------------------------------------------------------- runs in the platform's sandbox
class MethodFault(wire_base_Wire):
    """One thing that a check found: a violation is refused or flagged, a note is advice."""

    level: Literal["violation", "note"]
    kind: str = Field(description="kind of rows on which it was found")
    what: str
    mend: str = Field(description="how to put it right")


class NewCheck(wire_base_Wire):
    """Which method to check: files, or a snapshot of the team. One of both."""

    files: list[TextFile] = Field(
        default=[], max_length=MAX_FILES, description="method.py and what it needs"
    )
    snapshot: Reference | None = Field(default=None, description="or the id of a snapshot")


class MethodCheck(wire_base_Wire):
    """What came of running a method on toy tasks; empty `error`: it ran to its end."""

    keeps_contract: bool
    findings: list[MethodFault]
    error: str = ""
    seconds: FiniteFloat = Field(description="device seconds that were booked")


class NewTrial(wire_base_Wire):
    """Runs a snapshot of the team on a development task's public rows."""

    snapshot: Reference = Field(description="id of a snapshot")
    task: wire_base_Name | None = Field(default=None, description="needed where there are several")
    seeds: Annotated[int, Field(ge=1, le=MAX_TRIAL_SEEDS)] = Field(
        default=2, description="runs; the public weak teachers take turns"
    )
    first_seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(default=0, description="of the runs")
    submit: bool = Field(
        default=False, description="also submit the predictions; costs one submission"
    )
    show_predictions: bool = Field(default=False, description="return the predictions too")


class SeedFacts(wire_base_Wire):
    """One run: what it cost, and what can be said of it without labels."""

    seed: int
    teacher_seed: int
    seconds: FiniteFloat
    compute: dict[str, FiniteFloat]
    diagnostics: dict[str, FiniteFloat]


class Trial(wire_base_Wire):
    """What came of a trial; empty `error`: it ran to its end."""

    task: wire_base_Name
    snapshot: str
    error: str = ""
    seconds: FiniteFloat = Field(description="device seconds that were booked")
    n_rows: int = 0
    seeds: list[SeedFacts] = Field(default=[])
    ids: list[str] = Field(default=[], description="with show_predictions")
    runs: list[Run] = Field(default=[], description="with show_predictions")
    score: Score | None = Field(default=None, description="with submit")
    refused: str = Field(default="", description="why the predictions could not be submitted")
