"""Model calls, reservations, totals of spend, controls, teams, the campaign's budget."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

COUNTER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


def upgrade() -> None:
    _spend()
    _steering()
    op.execute(
        "INSERT INTO spend_totals (aar, kind, amount) "
        "SELECT aar, kind, SUM(amount) FROM spend GROUP BY aar, kind"
    )
    op.execute("INSERT INTO teams (aar, team) SELECT name, '' FROM aars")


def _aar(key: bool = False, nullable: bool = False, index: bool = False) -> sa.Column[str]:
    of = sa.ForeignKey("aars.name")
    return sa.Column("aar", sa.String(), of, primary_key=key, nullable=nullable, index=index)


def _spend() -> None:
    op.create_table(
        "spend_totals",
        _aar(key=True),
        sa.Column("kind", sa.String(), primary_key=True),
        sa.Column("amount", sa.Float(), nullable=False),
    )
    op.create_table(
        "model_calls",
        sa.Column("seq", COUNTER, primary_key=True, autoincrement=True),
        _aar(),
        sa.Column("call", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        *(sa.Column(kind, sa.BigInteger(), nullable=False) for kind in TOKENS),
        sa.Column("dollars", sa.Float(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
        sa.UniqueConstraint("aar", "call", name="one_record_a_call"),
    )
    op.create_table(
        "reservations",
        _aar(key=True),
        sa.Column("call", sa.String(), primary_key=True),
        sa.Column("dollars", sa.Float(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.String(), nullable=False),
    )


def _steering() -> None:
    op.create_table(
        "controls",
        sa.Column("seq", COUNTER, primary_key=True, autoincrement=True),
        _aar(nullable=True, index=True),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
        sa.Column("record", sa.JSON(), nullable=False),
    )
    op.create_table(
        "teams",
        _aar(key=True),
        sa.Column("team", sa.String(), nullable=False, index=True),
    )
    op.create_table(
        "budget",
        sa.Column("id", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("record", sa.JSON(), nullable=False),
    )
