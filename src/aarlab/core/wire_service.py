"""What travels over HTTP around the scores: tokens, votes, searches, code lineage, requests."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from aarlab.core.feedback import MethodState
from aarlab.core.wire import FindingKind, LeaderboardEntry, Name, Snapshot, Wire
from aarlab.core.wire_base import Reference
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
