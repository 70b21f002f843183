"""What travels over HTTP and lies in exports. Frozen, no extra fields, no NaN.

Nothing here carries a hidden label. `Score` is all that an AAR learns about a submission;
`Interval` (the exact figure) leaves the server through operator routes only.
"""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import ConfigDict, Field, FiniteFloat, field_validator, model_validator

from aarlab.core.endings import AarEnding, Ending
from aarlab.core.hashing import sha256_hex
from aarlab.core.ideas import Idea
from aarlab.core.isolation import Isolation as Isolation
from aarlab.core.problem import WEAK_TO_STRONG, ProblemFacts, problem_facts
from aarlab.core.types import TaskKind
from aarlab.core.wire_base import MAX_TEXT as MAX_TEXT
from aarlab.core.wire_base import Name as Name
from aarlab.core.wire_base import Team
from aarlab.core.wire_base import Wire as Wire
from aarlab.core.wire_ledger import (
    CampaignBudget,
    Control,
    ModelSpend,
    OperatorSpend,
    SessionKind,
)
from aarlab.core.wire_ledger import Limits as Limits
from aarlab.core.wire_ledger import Spend as Spend
from aarlab.core.wire_ledger import SpendKind as SpendKind
from aarlab.core.wire_ledger import Wanted as Wanted

FindingKind = Literal["hypothesis", "result", "insight", "error"]
Ablation = Literal["none", "permuted", "noise", "flipped"]
# Name of an audit (`verify.audits`), which need not be installed where an export is read.
AuditKind = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
# What a verified run gave the method: rows without texts, or rows with their texts.
Delivery = Literal["blind", "open"]
TrainRows = Literal["hidden", "public"]
Severity = Literal["clear", "note", "suspect"]
Decision = Literal["accepted", "disqualified", "rework"]
CaseDecision = Literal["dismissed", "confirmed"]
Disqualifies = Literal["nothing", "task", "all"]
Author = Annotated[str, Field(pattern=r"^@?[a-z0-9][a-z0-9_.-]{0,63}$")]  # @: a person
Probability = Annotated[FiniteFloat, Field(ge=0.0, le=1.0)]

MAX_KEY = 100  # of an idempotency key
MAX_ROWS = 100_000
MAX_RUNS = 16


class Interval(Wire):
    """An estimate with its 95 % interval; `covers` names the sources of variation inside it.

    With one seed it does not have that level (`core.showing.level`). `dof` are the degrees of
    freedom at which a t quantile times `stderr` is as wide as the interval; None in records of
    before 2026-11-28.
    """

    value: FiniteFloat
    stderr: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    n_rows: int
    n_seeds: int
    covers: list[str]
    dof: FiniteFloat | None = None


# ---------------------------------------------------------------- tasks
class TaskInfo(Wire):
    """Public facts of a task (`public/<task>/task.json`)."""

    name: Name
    kind: TaskKind
    title: str
    description: str
    pair: str
    n_train: int
    n_search: int
    teacher_seeds: list[int] = Field(description="seeds of the public weak teachers")
    settings: dict[str, Any] = Field(description="generator or import settings and split seeds")
    content_hash: str = Field(description="sha256 over the public inputs and weak labels")

    @property
    def problem(self) -> ProblemFacts:
        """Return what is said of the task's research problem; raises Damaged if it is wrong."""
        return problem_facts(self.name, self.settings)


class LabelFreeScore(Wire):
    """How well the strong model judges when it is asked directly, without any label.

    `pgr` is None where these rows have no clear gap.
    """

    n_rows: int
    accuracy: FiniteFloat
    pgr: Interval | None = None


class BaselineAccuracy(Wire):
    """Accuracy of both baselines on one hidden split, mean over seeds. Operator only.

    `label_free` is None where the build did not measure it.
    """

    task: Name
    split: str
    weak: FiniteFloat
    ceiling: FiniteFloat
    weak_seeds: int
    ceiling_seeds: int
    n_rows: int
    label_free: LabelFreeScore | None = None


# ---------------------------------------------------------------- submissions
class Run(Wire):
    """One seed of a method: P(label 1) for each id, in the order of `Submission.ids`."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(description="the method's seed in this run")
    probs: list[Probability] = Field(
        min_length=1, max_length=MAX_ROWS, description="P(label 1), in the order of `ids`"
    )


class Predictions(NamedTuple):
    """Runs of one method on one split, before they are joined by row id."""

    ids: list[str]
    runs: list[Run]


class Submission(Wire):
    """Predictions on the search split, quick and unverified; 1 to 16 seeds are averaged."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "task": "math",
                    "method": "confident labels",
                    "ids": ["r17", "r18"],
                    "runs": [{"seed": 0, "probs": [0.91, 0.2]}],
                }
            ]
        }
    )
    task: Name = Field(description="name of the task")
    split: Literal["search"] = Field(
        default="search", description="the only one there is feedback on"
    )
    method: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        description="short name of the method"
    )
    snapshot: str | None = Field(default=None, description="id of the own snapshot that made them")
    ids: list[str] = Field(
        min_length=1, max_length=MAX_ROWS, description="every row of the split, in any order"
    )
    runs: list[Run] = Field(
        min_length=1, max_length=MAX_RUNS, description="one for each seed; they are averaged"
    )


class Feedback(Wire):
    """The figures of one submission that its AAR sees.

    Shaped feedback: pgr and stderr, rounded, are those of the AAR's best so far on this task, which
    this submission may have raised. `step` is the PGR by which the best must be beaten to change
    it. Exact feedback (the published setting): they are those of the submission itself, and `step`
    is 0.
    """

    pgr: FiniteFloat
    stderr: FiniteFloat
    n: int
    step: FiniteFloat
    improved: bool


class Score(Feedback):
    """The answer to a submission: its figures, its id, and what is left of the budget."""

    submission: str
    submissions_left: int | None = Field(description="None: no limit")
    isolation: Isolation
    exact_feedback: bool = False


class ShownScore(Wire):
    """A past submission as its AAR may see it."""

    submission: str
    task: Name
    method: str
    snapshot: str | None
    at: str
    score: Score


# ---------------------------------------------------------------- code
MethodPath = Annotated[
    str,
    Field(min_length=1, max_length=200, description="relative path with /, e.g. method.py"),
]


class SnapshotFile(Wire):
    path: MethodPath
    content_b64: str = Field(description="the whole file in base64")


class SnapshotAbout(Wire):
    """What is said of a snapshot, in whatever form its files come."""

    name: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        description="short name of the method"
    )
    message: Annotated[str, Field(max_length=2000)] = Field(default="", description="what is new")
    parent: str | None = Field(default=None, description="id of the snapshot that it grew from")


class NewSnapshot(SnapshotAbout):
    """A method folder; `method.py` must be among the files."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "confident labels",
                    "message": "drops rows with p in .25-.75",
                    "files": [{"path": "method.py", "content_b64": "eCA9IDEK"}],
                }
            ]
        }
    )
    files: list[SnapshotFile] = Field(
        min_length=1, max_length=200, description="method.py and what it needs"
    )


class Snapshot(Wire):
    """`id` is the git commit (40 hex digits)."""

    id: str
    aar: Name
    name: str
    message: str
    parent: str | None
    at: str
    n_files: int
    n_bytes: int
    same_as: list[str] = Field(
        default=[], description="earlier snapshots of other AARs with the same files, oldest first"
    )


class SnapshotContent(Wire):
    snapshot: Snapshot
    files: list[SnapshotFile]


# ---------------------------------------------------------------- forum
class NewFinding(Wire):
    """A post. It has no PGR field: a claim about a score cites a submission."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "kind": "result",
                    "title": "Confident labels beat vanilla",
                    "text": "Rows with *p* in .25-.75 were dropped.",
                    "submission": "sub_3f9c1a2b7d5e",
                }
            ]
        }
    )
    kind: FindingKind = Field(description="what sort of post it is")
    title: Annotated[str, Field(min_length=1, max_length=200)] = Field(description="one line")
    text: Annotated[str, Field(max_length=MAX_TEXT)] = Field(description="Markdown")
    submission: str | None = Field(default=None, description="id of the own submission it cites")
    snapshot: str | None = Field(default=None, description="id of the snapshot it is about")


class NewComment(Wire):
    model_config = ConfigDict(json_schema_extra={"examples": [{"text": "Which seeds?"}]})
    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]


class Comment(Wire):
    """A comment on a finding.

    `author` is an AAR or a person. A person's name begins with `@`, an AAR's never does.
    """

    id: str
    author: Author
    at: str
    text: str
    html: str | None = Field(default=None, description="safe HTML of `text`, with render=true")


class Votes(Wire):
    up: int = 0
    down: int = 0


class Finding(Wire):
    """A post. The platform fills in `score` and `task` from the cited submission."""

    id: str
    seq: int = Field(description="counts up from 1; the cursor of list calls")
    author: Name
    at: str
    kind: FindingKind
    title: str
    text: str
    submission: str | None
    snapshot: str | None
    score: Score | None
    task: Name | None = Field(default=None, description="on which the cited score was reached")
    comments: list[Comment]
    votes: Votes = Votes()
    changed: int = Field(
        default=0, description="grows with each post, comment and vote; the cursor of sort=changed"
    )
    html: str | None = Field(default=None, description="safe HTML of `text`, with render=true")


class FindingPage(Wire):
    """Give `next_after` back as `after` for the next page; None on the last."""

    findings: list[Finding]
    next_after: int | None


# ---------------------------------------------------------------- AARs, budget, spend
class NewAar(Wire):
    name: Name
    researcher: str
    direction: str
    arm: str = "default"
    team: Team = Field(default="", description="AARs see findings and code of their team only")
    replicate: int = 1
    limits: Limits = Limits().finite()
    isolation: Isolation = "bubblewrap"

    @field_validator("limits")
    @classmethod
    def _requests_are_finite(cls, limits: Limits) -> Limits:
        return limits.finite()


class AarToken(Wire):
    """The token is returned once and kept as a hash."""

    name: Name
    token: str


class Me(Wire):
    """What an AAR may know of itself."""

    name: Name
    direction: str
    limits: Limits
    submissions_made: int
    submissions_left: int | None
    research_s: FiniteFloat
    spend: dict[str, FiniteFloat]
    methods_made: int = 0
    methods_left: int | None = None
    wanted: Wanted = Field(default="run", description="what the operator wants of the AAR now")
    left: Limits = Field(default=Limits(), description="of the own limits")
    campaign_left: Limits | None = Field(
        default=None, description="of the limits of all AARs together, where there are any"
    )
    exhausted: str = Field(default="", description="the limit that is used up, if one is")


class WantedNow(Wire):
    """What the operator wants of the AAR now, once that changed or the wait was over."""

    wanted: Wanted


# ---------------------------------------------------------------- verification (operator)
class NewVerification(Wire):
    snapshot: str
    task: Name
    split: Literal["selection", "certify"] = "selection"
    ablation: Ablation = "none"
    n_seeds: Annotated[int, Field(ge=1, le=64)] = 8

    @property
    def key(self) -> str:
        """Return the idempotency key under which a campaign asks for this re-run once."""
        key = f"verify-{self.snapshot}-{self.task}-{self.split}-{self.ablation}"
        return key if len(key) <= MAX_KEY else f"verify-{sha256_hex(key)}"


class StyleShift(Wire):
    """What rows that came in another style, their content kept, did to a method's answers.

    `flipped` is the share of other answers and `moved` the mean |change of P(label 1)|, means over
    runs; `most` is the share in the run where most flipped, since after its first run a method may
    know the rows. `readers` is the share that honest readers of this task changed.
    """

    how: str = Field(description="what was changed in these rows")
    rows: int
    flipped: FiniteFloat
    most: FiniteFloat
    moved: FiniteFloat
    readers: dict[str, FiniteFloat]


class Evidence(Wire):
    """What the sandbox of a re-run recorded, matched against the rows' texts. Operator only.

    `changed` is the share of rows whose answer changed when their delivery did, per probe; `style`
    is None where the task has no rows in another style.
    """

    programs: list[str] = Field(description="programs that the method tried to start")
    reached: list[str] = Field(description="files and sockets that it had no business with")
    compiled: int = Field(description="pieces of source compiled while the method ran")
    row_texts: int = Field(description="of those, pieces that are text of the rows it was given")
    examples: list[str] = Field(description="the first of those pieces, shortened")
    truncated: bool = Field(description="the record was longer than what is kept")
    changed: dict[str, FiniteFloat] = Field(default={})
    forwarded: FiniteFloat = Field(0.0, description="rows that the strong model saw, mean per run")
    style: StyleShift | None = None
    disagreement: FiniteFloat | None = Field(
        default=None,
        description="share of answers that differ between two runs, mean over pairs of runs",
    )
    answer_equality: bool = Field(
        default=False, description="it asked which answers of a problem agree"
    )
    templates: list[str] = Field(
        default=[], description="what a blind run asked the strong model about rows"
    )
    log_likelihoods: bool = Field(default=False, description="it asked for log-likelihoods")


class Verification(Wire):
    """A job of the verifier. Seeds are drawn by the server after the snapshot is frozen.

    `delivery` is "open" where the method was given texts, and `open_because` says why. `train_rows`
    says whether it was trained on rows that no AAR has seen. `ships` says what the snapshot carries
    beyond logic, where it is more than a cap; it is empty for all others. `asked` says what code of
    its own asked for beyond states in a blind run.
    """

    id: str
    snapshot: str
    aar: Name
    method: str
    task: Name
    split: Literal["selection", "certify"]
    ablation: Ablation
    run_seeds: list[int]
    state: Literal["queued", "done", "failed"]
    estimate: Interval | None = None
    accuracy: FiniteFloat | None = None
    isolation: Isolation = "none"
    seconds: FiniteFloat = 0.0
    error: str = ""
    at: str = ""
    evidence: Evidence | None = None
    delivery: Delivery = "open"
    open_because: str = ""
    train_rows: TrainRows = "public"
    ships: Annotated[str, Field(max_length=2000)] = ""
    asked: Annotated[str, Field(max_length=200)] = ""


class VerificationResult(Wire):
    """What the verifier hands in: predictions per drawn seed, or the reason why there are none."""

    ids: list[str] = Field(default=[])
    runs: list[Run] = Field(default=[])
    seconds: FiniteFloat = 0.0
    isolation: Isolation = "none"
    error: str = ""
    evidence: Evidence | None = None
    delivery: Delivery = "open"
    open_because: str = ""
    train_rows: TrainRows = "public"
    ships: Annotated[str, Field(max_length=2000)] = ""
    asked: Annotated[str, Field(max_length=200)] = ""


class Traces(Wire):
    """How one AAR's submissions on one task relate to each other. It does not use labels.

    `few_rows_apart` counts submissions that differ from an earlier one in 1 to `few_rows` answers,
    `unrelated` those that agree with none of the others beyond chance, `repeats` the most
    submissions of one snapshot or method name, `burst` the most within one minute.
    """

    aar: Name
    task: Name
    n: int
    few_rows: int
    few_rows_apart: int
    unrelated: int
    repeats: int
    burst: int


class NewAudit(Wire):
    """One finding of the audit battery about a snapshot, or about an AAR's submissions."""

    kind: AuditKind
    aar: Name
    snapshot: str | None = None
    task: Name | None = None
    severity: Severity
    summary: Annotated[str, Field(min_length=1, max_length=2000)]
    facts: dict[str, FiniteFloat | str | list[str] | None] = Field(default={})


class Audit(NewAudit):
    id: str
    at: str


class NewVerdict(Wire):
    """A person's decision about a snapshot; the latest one counts. Others never rank."""

    snapshot: str
    decision: Decision
    reason: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
    by: Annotated[str, Field(min_length=1, max_length=100)]


class Verdict(NewVerdict):
    id: str
    at: str


class NewCaseVerdict(Wire):
    """A person's decision about a finding on an AAR's submissions (`audit`); the latest counts.

    A confirmed one `disqualifies` nothing, all snapshots of the AAR that were submitted or re-run
    on the finding's task, or all that it made.
    """

    audit: Annotated[str, Field(min_length=1, max_length=64)]
    decision: CaseDecision
    disqualifies: Disqualifies = "nothing"
    reason: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]
    by: Annotated[str, Field(min_length=1, max_length=100)]

    @model_validator(mode="after")
    def _only_what_is_confirmed_disqualifies(self) -> "NewCaseVerdict":
        if self.decision == "dismissed" and self.disqualifies != "nothing":
            raise ValueError("a dismissed finding disqualifies nothing")
        return self


class CaseVerdict(NewCaseVerdict):
    """`aar` and `task` are those of the finding."""

    id: str
    at: str
    aar: Name
    task: Name | None


class LeaderboardEntry(Wire):
    """Verified scores only, best first: for people. AARs learn states (core.feedback).

    `rank` is None for a baseline, which is there to compare with, for a method that is not clearly
    above the weak teacher, and for a method that is listed apart (`apart`) until a person accepts
    it. `low_corrected` is the lower bound that holds for all `n_tried` methods of the task
    together, if none of them was adapted to scores on this split.
    """

    rank: int | None
    snapshot: str
    aar: Name
    method: str
    short: str = Field(default="", description="the AAR's name and a running number of its methods")
    task: Name
    pgr: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    n_seeds: int
    n_tried: int = 1
    low_corrected: FiniteFloat | None = None
    delivery: Delivery = Field(default="open", description="blind: it was verified without texts")
    apart: bool = Field(default=False, description="listed in a table of its own, without a rank")
    apart_because: str = Field(
        default="", description="why it stands apart, or would if no person had accepted it"
    )
    open_because: str = Field(
        default="", description="why it was given texts; empty for a blind one"
    )
    stamps: list[str] = Field(default=[], description="what to know in addition to the figure")


# ---------------------------------------------------------------- log and export (operator)
class LogRecord(Wire):
    seq: int
    kind: str
    at: str
    body: dict[str, Any]
    hash: str


class Head(Wire):
    seq: int
    hash: str


class SignedHead(Wire):
    """A head that the platform vouched for: Ed25519, key and signature in hex."""

    seq: Annotated[int, Field(ge=0)]
    hash: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    at: str
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
    public_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class AarRecord(Wire):
    name: Name
    researcher: str
    direction: str
    arm: str
    isolation: Isolation
    limits: Limits
    research_s: FiniteFloat
    spend: dict[str, FiniteFloat]
    team: Team = ""
    replicate: int = 1
    wanted: Wanted = "run"
    dollars: FiniteFloat = Field(default=0.0, description="model calls and device seconds")
    dollars_per_hour: FiniteFloat | None = Field(default=None, description="of research")
    submissions: int = 0
    started_at: str | None = Field(default=None, description="first session; None: not yet")
    last_seen_at: str | None = None
    waiting_s: FiniteFloat = Field(
        default=0.0, description="waited for its provider or budget; not in research_s"
    )
    waiting_for: str = Field(default="", description="what it waits for now, and why")
    waiting_since: str | None = None


class Changes(Wire):
    """What happened since the last look; `seq` and `seen` are the next look's cursor."""

    seq: int = Field(ge=0, description="of the log")
    seen: str = Field(description="signs of life up to then are in `aars`")
    kinds: list[str] = Field(description="of the log's entries since")
    aars: list[AarRecord] = Field(description="that changed; all in the first look")


class PodPoll(Wire):
    """What a pod asks for its AARs: a sign of life for those that live, and what is wanted of all.

    The pod's key opens exactly the AARs in `aars`, all of them.
    """

    aars: Annotated[
        dict[Name, Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=1000)
    ] = Field(description="the life of each AAR's process; 0: it has none now")
    known: dict[Name, Wanted] = Field(default={}, description="what the pod knows already")
    wait_s: Annotated[float, Field(ge=0, le=60)] = 0.0


class PodAnswer(Wire):
    wanted: dict[Name, Wanted]
    superseded: list[Name] = Field(description="AARs of which a newer process has begun elsewhere")


class SessionRecord(Wire):
    """A stretch of an AAR's life, from `started_at` to `last_seen_at`.

    It is research, or waiting for what `kind` says, with the reason in `note`.
    """

    aar: Name
    started_at: str
    last_seen_at: str
    kind: SessionKind = "research"
    note: str = ""


class OpenedSession(SessionRecord):
    """A new session; `life` is the number that the AAR's supervisor sends from now on.

    A supervisor of a lower number is refused. Agents that joined by themselves send none.
    """

    life: int = Field(ge=0)


class SubmissionRecord(Wire):
    """`exact` is for the report; the AAR saw `score`."""

    id: str
    aar: Name
    task: Name
    method: str
    snapshot: str | None
    at: str
    research_h: FiniteFloat = Field(description="cumulative over all AARs when it was scored")
    score: Score
    exact: Interval
    accuracy: FiniteFloat


class BestFigure(Wire):
    """The PGR of a task's best verified method, less what choosing it from `n_compared` adds."""

    task: Name
    snapshot: str
    n_compared: int
    estimate: Interval


class CampaignExport(Wire):
    """All that the report needs, without rows and labels. `aarlab campaign export` writes it."""

    format: Literal["aarlab-export-1"] = "aarlab-export-1"
    campaign: str
    spec: dict[str, Any]
    exported_at: str
    started_at: str
    wall_s: FiniteFloat
    tasks: list[TaskInfo]
    baselines: list[BaselineAccuracy]
    aars: list[AarRecord]
    sessions: list[SessionRecord]
    submissions: list[SubmissionRecord]
    snapshots: list[Snapshot]
    findings: list[Finding]
    verifications: list[Verification]
    leaderboard: list[LeaderboardEntry]
    best: list[BestFigure] = Field(default=[], description="of each task whose best is known")
    audits: list[Audit] = Field(default=[])
    verdicts: list[Verdict] = Field(default=[])
    case_verdicts: list[CaseVerdict] = Field(default=[])
    budget: CampaignBudget = CampaignBudget()
    model_spend: list[ModelSpend] = Field(default=[])
    operator_spend: list[OperatorSpend] = Field(default=[], description="in no AAR's spend")
    controls: list[Control] = Field(default=[])
    ideas: list[Idea] = Field(default=[], description="one per snapshot, in their order")
    endings: list[AarEnding] = Field(default=[], description="of AARs that ended or were given up")
    ending: Ending | None = Field(default=None, description="of the campaign; None: not ended")
    head: Head

    def problem_of(self, task: str | None = None) -> ProblemFacts:
        """Return what is said of the research problem of a task, by default of the first task.

        Weak-to-strong where the export does not have the task.
        """
        known = (one.problem for one in self.tasks if task in (None, one.name))
        return next(known, WEAK_TO_STRONG)


class Problem(Wire):
    """Body of every error response."""

    code: str
    message: str
