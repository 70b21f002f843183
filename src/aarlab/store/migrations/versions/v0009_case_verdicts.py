"""Verdicts about findings that are about an AAR, not a snapshot."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

COUNTER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "case_verdicts",
        sa.Column("seq", COUNTER, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(), nullable=False, unique=True),
        sa.Column("audit", sa.String(), sa.ForeignKey("audits.id"), nullable=False, index=True),
        sa.Column("record", sa.JSON(), nullable=False),
    )
