"""The tables. State only grows; what happened and when is in `log`, the hash chain.

A change here needs a migration (`migrations/versions`); a test compares the two.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()
COUNTER = BigInteger().with_variant(Integer, "sqlite")  # SQLite's own counter is 64 bits wide

aars = Table(
    "aars",
    metadata,
    Column("name", String, primary_key=True),
    Column("token_sha256", String, nullable=False, unique=True),
    Column("scope", String, nullable=False),
    Column("record", JSON, nullable=False),  # wire.NewAar
    Column("at", String, nullable=False),
    Column("life", Integer, nullable=False, default=0),  # of its newest supervisor
)

# The newest state that each AAR without a shared folder has kept (store.kept).
kept = Table(
    "kept",
    metadata,
    Column("aar", ForeignKey("aars.name"), primary_key=True),
    Column("seq", Integer, nullable=False),
    Column("life", Integer, nullable=False),
    Column("manifest", Text, nullable=False),  # wire_kept.Manifest
    Column("sizes", JSON, nullable=False),  # bytes by blob
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", COUNTER, primary_key=True, autoincrement=True),
    Column("aar", ForeignKey("aars.name"), nullable=False, index=True),
    Column("started_at", String, nullable=False),
    Column("last_seen_at", String, nullable=False),
)

# Sessions that an AAR's supervisor vouches for. The others are research of agents that joined by
# themselves.
supervised = Table(
    "supervised",
    metadata,
    Column("session", ForeignKey("sessions.id"), primary_key=True),
    Column("kind", String, nullable=False),  # wire_ledger.SessionKind
    Column("note", String, nullable=False),
)

submissions = Table(
    "submissions",
    metadata,
    Column("seq", COUNTER, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("aar", ForeignKey("aars.name"), nullable=False, index=True),
    Column("task", String, nullable=False),
    Column("method", String, nullable=False),
    Column("snapshot", String),
    Column("at", String, nullable=False),
    Column("predictions", LargeBinary, nullable=False),
)

scores = Table(
    "scores",
    metadata,
    Column("submission", ForeignKey("submissions.id"), primary_key=True),
    Column("improved", Boolean, nullable=False),
    Column("record", JSON, nullable=False),  # wire.Score
)

snapshots = Table(
    "snapshots",
    metadata,
    Column("seq", COUNTER, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("aar", ForeignKey("aars.name"), nullable=False, index=True),
    Column("record", JSON, nullable=False),  # wire.Snapshot
)

findings = Table(
    "findings",
    metadata,
    Column("seq", COUNTER, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("author", ForeignKey("aars.name"), nullable=False),
    Column("at", String, nullable=False),
    Column("record", JSON, nullable=False),  # wire.NewFinding
)

comments = Table(
    "comments",
    metadata,
    Column("seq", COUNTER, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("finding", ForeignKey("findings.id"), nullable=False, index=True),
    Column("author", ForeignKey("aars.name"), nullable=False),
    Column("at", String, nullable=False),
    Column("text", Text, nullable=False),
)

remarks = Table(
    "remarks",
    metadata,
    Column("seq", COUNTER, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("finding", ForeignKey("findings.id"), nullable=False, index=True),
    Column("person", String, nullable=False),  # a person's name: no AAR's, and no key of `aars`
    Column("at", String, nullable=False),
    Column("text", Text, nullable=False),
)

verifications = Table(
    "verifications",
    metadata,
    Column("seq", COUNTER, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("state", String, nullable=False, index=True),
    Column("record", JSON, nullable=False),  # wire.Verification
    Column("predictions", LargeBinary),
)

# Verification pods: how many processes of each have joined, and which re-runs they hold. `until` is
# a moment of the database's clock (store.leases).
verifiers = Table(
    "verifiers",
    metadata,
    Column("pod", String, primary_key=True),
    Column("number", Integer, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("run", ForeignKey("verifications.id"), primary_key=True),
    Column("pod", String, nullable=False),
    Column("number", Integer, nullable=False),
    Column("since", String, nullable=False),
    Column("until", Float, nullable=False),
)

audits = Table(
    "audits",
    metadata,
    Column("seq", COUNTER, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("snapshot", String, index=True),
    Column("record", JSON, nullable=False),  # wire.Audit
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("seq", COUNTER, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("snapshot", String, nullable=False, index=True),
    Column("record", JSON, nullable=False),  # wire.Verdict
)

case_verdicts = Table(
    "case_verdicts",
    metadata,
    Column("seq", COUNTER, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("audit", ForeignKey("audits.id"), nullable=False, index=True),
    Column("record", JSON, nullable=False),  # wire.CaseVerdict
)

spend = Table(
    "spend",
    metadata,
    Column("seq", COUNTER, primary_key=True, autoincrement=True),
    Column("aar", ForeignKey("aars.name"), nullable=False, index=True),
    Column("kind", String, nullable=False),
    Column("amount", Float, nullable=False),
    Column("note", String, nullable=False),
    Column("at", String, nullable=False),
)

log = Table(
    "log",
    metadata,
    Column("seq", COUNTER, primary_key=True, autoincrement=False),
    Column("kind", String, nullable=False),
    Column("at", String, nullable=False),
    Column("body", Text, nullable=False),  # canonical JSON
    Column("hash", String, nullable=False),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("actor", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("request_sha256", String, nullable=False),
    Column("answer", Text, nullable=False),
)

claims = Table(
    "claims",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", String, primary_key=True),
    Column("aar", ForeignKey("aars.name"), nullable=False, index=True),
    Column("sha256", String, nullable=False, unique=True),
    Column("scopes", JSON, nullable=False),
    Column("note", String, nullable=False),
    Column("at", String, nullable=False),
    Column("revoked_at", String),
)

votes = Table(
    "votes",
    metadata,
    Column("finding", ForeignKey("findings.id"), primary_key=True),
    Column("aar", ForeignKey("aars.name"), primary_key=True),
    Column("value", Integer, nullable=False),  # +1 or -1
)

changes = Table(
    "changes",
    metadata,
    Column("seq", COUNTER, primary_key=True, autoincrement=True),
    Column("finding", ForeignKey("findings.id"), nullable=False, index=True),
)

terms = Table(
    "terms",
    metadata,
    Column("finding", ForeignKey("findings.id"), primary_key=True),
    Column("term", String, primary_key=True, index=True),
)

trees = Table(
    "trees",
    metadata,
    Column("snapshot", ForeignKey("snapshots.id"), primary_key=True),
    Column("sha256", String, nullable=False, index=True),  # of paths and contents
    Column("parent", String, index=True),
)

method_submissions = Table(
    "method_submissions",
    metadata,
    Column("seq", COUNTER, primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),
    Column("aar", ForeignKey("aars.name"), nullable=False, index=True),
    Column("snapshot", ForeignKey("snapshots.id"), nullable=False, index=True),
    Column("task", String),
    Column("note", Text, nullable=False),
    Column("at", String, nullable=False),
    Column("refused", Text),  # the reason
)

# What each AAR has spent in all, by kind: the sums of `spend` and `model_calls`.
spend_totals = Table(
    "spend_totals",
    metadata,
    Column("aar", ForeignKey("aars.name"), primary_key=True),
    Column("kind", String, primary_key=True),
    Column("amount", Float, nullable=False),
)

model_calls = Table(
    "model_calls",
    metadata,
    Column("seq", COUNTER, primary_key=True, autoincrement=True),
    Column("aar", ForeignKey("aars.name"), nullable=False),
    Column("call", String, nullable=False),
    Column("model", String, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("dollars", Float, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("at", String, nullable=False),
    UniqueConstraint("aar", "call", name="one_record_a_call"),
)

reservations = Table(
    "reservations",
    metadata,
    Column("aar", ForeignKey("aars.name"), primary_key=True),
    Column("call", String, primary_key=True),
    Column("dollars", Float, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("expires_at", String, nullable=False),
)

# Calls of the operator, who is not an AAR. A row is made when the call is reserved, with the most
# that it can cost, and holds what it did cost once it is booked.
operator_calls = Table(
    "operator_calls",
    metadata,
    Column("seq", COUNTER, primary_key=True, autoincrement=True),
    Column("purpose", String, nullable=False, index=True),
    Column("call", String, nullable=False, unique=True),
    Column("booked", Boolean, nullable=False),
    Column("model", String, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("dollars", Float, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("priced", String, nullable=False),
    Column("at", String, nullable=False),
)

controls = Table(
    "controls",
    metadata,
    Column("seq", COUNTER, primary_key=True, autoincrement=True),
    Column("aar", ForeignKey("aars.name"), index=True),  # none: the whole campaign
    Column("action", String, nullable=False),
    Column("at", String, nullable=False),
    Column("record", JSON, nullable=False),  # wire_ledger.NewControl
)

teams = Table(
    "teams",
    metadata,
    Column("aar", ForeignKey("aars.name"), primary_key=True),
    Column("team", String, nullable=False, index=True),
)

budget = Table(
    "budget",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # one row, 1
    Column("record", JSON, nullable=False),  # wire_ledger.CampaignBudget
)

paces = Table(
    "paces",
    metadata,
    Column("what", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("left", Float, nullable=False),  # tokens, at the moment `at` of the database's clock
    Column("at", Float, nullable=False),
)
