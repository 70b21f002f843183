"""Audits and verdicts."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

COUNTER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    for name, nullable in (("audits", True), ("verdicts", False)):
        op.create_table(
            name,
            sa.Column("seq", COUNTER, primary_key=True, autoincrement=True),
            sa.Column("id", sa.String(), nullable=False, unique=True),
            sa.Column("snapshot", sa.String(), nullable=nullable, index=True),
            sa.Column("record", sa.JSON(), nullable=False),
        )
