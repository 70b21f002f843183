"""Paid model calls of the operator: the review of code, the judge of ideas."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

COUNTER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TOKEN_KINDS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


def upgrade() -> None:
    op.create_table(
        "operator_calls",
        sa.Column("seq", COUNTER, primary_key=True, autoincrement=True),
        sa.Column("purpose", sa.String(), nullable=False, index=True),
        sa.Column("call", sa.String(), nullable=False, unique=True),
        sa.Column("booked", sa.Boolean(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        *(sa.Column(kind, sa.BigInteger(), nullable=False) for kind in TOKEN_KINDS),
        sa.Column("dollars", sa.Float(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("priced", sa.String(), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
    )
