"""The tables of the first release."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

COUNTER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _aars()
    _work()
    _forum()
    _log()


def _aars() -> None:
    op.create_table(
        "aars",
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("token_sha256", sa.String(), nullable=False, unique=True),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("record", sa.JSON(), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
    )
    op.create_table(
        "sessions",
        sa.Column("id", COUNTER, primary_key=True, autoincrement=True),
        sa.Column("aar", sa.String(), sa.ForeignKey("aars.name"), nullable=False, index=True),
        sa.Column("started_at", sa.String(), nullable=False),
        sa.Column("last_seen_at", sa.String(), nullable=False),
    )
    op.create_table(
        "spend",
        sa.Column("seq", COUNTER, primary_key=True, autoincrement=True),
        sa.Column("aar", sa.String(), sa.ForeignKey("aars.name"), nullable=False, index=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("amount", sa.Float(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
    )


def _work() -> None:
    op.create_table(
        "submissions",
        sa.Column("seq", COUNTER, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(), nullable=False, unique=True),
        sa.Column("aar", sa.String(), sa.ForeignKey("aars.name"), nullable=False, index=True),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("snapshot", sa.String()),
        sa.Column("at", sa.String(), nullable=False),
        sa.Column("predictions", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "scores",
        sa.Column("submission", sa.String(), sa.ForeignKey("submissions.id"), primary_key=True),
        sa.Column("improved", sa.Boolean(), nullable=False),
        sa.Column("record", sa.JSON(), nullable=False),
    )
    op.create_table(
        "snapshots",
        sa.Column("seq", COUNTER, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(), nullable=False, unique=True),
        sa.Column("aar", sa.String(), sa.ForeignKey("aars.name"), nullable=False, index=True),
        sa.Column("record", sa.JSON(), nullable=False),
    )
    op.create_table(
        "verifications",
        sa.Column("seq", COUNTER, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(), nullable=False, unique=True),
        sa.Column("state", sa.String(), nullable=False, index=True),
        sa.Column("record", sa.JSON(), nullable=False),
        sa.Column("predictions", sa.LargeBinary()),
    )


def _forum() -> None:
    op.create_table(
        "findings",
        sa.Column("seq", COUNTER, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(), nullable=False, unique=True),
        sa.Column("author", sa.String(), sa.ForeignKey("aars.name"), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
        sa.Column("record", sa.JSON(), nullable=False),
    )
    op.create_table(
        "comments",
        sa.Column("seq", COUNTER, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(), nullable=False, unique=True),
        sa.Column("finding", sa.String(), sa.ForeignKey("findings.id"), nullable=False, index=True),
        sa.Column("author", sa.String(), sa.ForeignKey("aars.name"), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
    )


def _log() -> None:
    op.create_table(
        "log",
        sa.Column("seq", COUNTER, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
    )
    op.create_table(
        "idempotency",
        sa.Column("actor", sa.String(), primary_key=True),
        sa.Column("key", sa.String(), primary_key=True),
        sa.Column("request_sha256", sa.String(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
    )
