"""What travels over HTTP around the scores: tokens, votes, searches, code lineage, requests."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, FiniteFloat

from aarlab.core.wire import (
    MAX_TEXT,
    FindingKind,
    LeaderboardEntry,
    Limits,
    Name,
    Snapshot,
    Wire,
)

Scope = Literal["read", "write"]
Ballot = Literal["up", "down", "none"]
Change = Literal["added", "removed", "changed"]
FindingOrder = Literal["seq", "new", "top", "changed"]
Reference = Annotated[str, Field(min_length=1, max_length=64)]
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
    kind: FindingKind | None = None
    author: Annotated[str, Field(max_length=64)] | None = None
    sort: FindingOrder = Field(default="seq", description="seq: oldest first; top: most votes")
    after: Annotated[int, Field(ge=0, le=MAX_CURSOR)] = 0
    limit: Annotated[int, Field(ge=1, le=100)] = 50
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
    snapshot: Reference
    task: Name | None = None
    note: Annotated[str, Field(max_length=2000)] = ""


class MethodRequest(Wire):
    """`scores` are its lines of the leaderboard, rounded as there, and no other figure."""

    id: str
    aar: Name
    snapshot: str
    task: Name | None
    note: str
    at: str
    state: Literal["queued", "verified", "refused"]
    reason: str = ""
    scores: list[LeaderboardEntry] = Field(default=[])


class Refusal(Wire):
    reason: Annotated[str, Field(min_length=1, max_length=500)]


# ---------------------------------------------------------------- steering and spend
class NewControl(Wire):
    """What a person asks of one AAR while it runs; `limits` replaces those given (`extend`)."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"action": "message", "text": "Look at the hard rows.", "by": "Ada"}]
        }
    )
    action: Literal["pause", "resume", "stop", "message", "extend"]
    text: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    limits: Limits | None = None
    by: Annotated[str, Field(min_length=1, max_length=100)]


class Control(NewControl):
    seq: int
    aar: Name
    at: str


class OperatorMessage(Wire):
    """A message of a person to an AAR; `seq` is the cursor of the list."""

    seq: int
    at: str
    by: str
    text: str


class NewReservation(Wire):
    """Most that the next model call can cost; released when the call is recorded."""

    call: Reference
    dollars: Annotated[FiniteFloat, Field(ge=0, le=1e6)]
    tokens: Annotated[int, Field(ge=0, le=10**9)]


class ModelCall(Wire):
    """One paid model call, recorded once under `call`; tokens by kind do not overlap."""

    call: Reference
    model: Annotated[str, Field(min_length=1, max_length=200)]
    input_tokens: Annotated[int, Field(ge=0, le=10**9)] = 0
    output_tokens: Annotated[int, Field(ge=0, le=10**9)] = 0
    cache_read_tokens: Annotated[int, Field(ge=0, le=10**9)] = 0
    cache_write_tokens: Annotated[int, Field(ge=0, le=10**9)] = 0
    dollars: Annotated[FiniteFloat, Field(ge=0, le=1e6)] = 0.0
    seconds: Annotated[FiniteFloat, Field(ge=0, le=1e6)] = 0.0
