"""Record which sessions a supervisor vouches for, and what an AAR waited for."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

COUNTER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "supervised",
        sa.Column("session", COUNTER, sa.ForeignKey("sessions.id"), primary_key=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
    )
