"""Tokens with scopes, votes, search, snapshot trees, requests for verification."""

import sqlalchemy as sa
from alembic import op

from aarlab.store.search import words

revision = "0004"
down_revision = "0003"

COUNTER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _tokens()
    _forum()
    _methods()
    _carry_over()


def _carry_over() -> None:
    """Tokens of registered AARs go on opening; findings are found, and changed when posted."""
    connection = op.get_bind()
    names = ("id", "aar", "sha256", "note", "at")
    scopes = sa.column("scopes", sa.JSON())
    tokens = sa.table("tokens", *map(sa.column, names), scopes)
    known = sa.text("SELECT name, token_sha256, at FROM aars")
    for number, row in enumerate(connection.execute(known).all()):
        first = {"id": f"tok_first_{number}", "aar": row.name, "sha256": row.token_sha256}
        first |= {"note": "registration", "at": row.at}
        connection.execute(sa.insert(tokens).values(**first, scopes=["read", "write"]))
    op.execute("INSERT INTO changes (finding) SELECT id FROM findings ORDER BY seq")
    terms = sa.table("terms", sa.column("finding"), sa.column("term"))
    for finding, text in _posts(connection).items():
        rows = [{"finding": finding, "term": word} for word in words(text)]
        if rows:
            connection.execute(sa.insert(terms), rows)


def _posts(connection: sa.Connection) -> dict[str, str]:
    """All text of each finding, that of its comments too."""
    findings = sa.table("findings", sa.column("id"), sa.column("record", sa.JSON()))
    comments = sa.table("comments", *map(sa.column, ("seq", "finding", "text")))
    posts = {
        row.id: f"{row.record['title']} {row.record['text']}"
        for row in connection.execute(sa.select(findings))
    }
    for row in connection.execute(sa.select(comments).order_by(comments.c.seq)):
        posts[row.finding] += f" {row.text}"
    return posts


def _tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("aar", sa.String(), sa.ForeignKey("aars.name"), nullable=False, index=True),
        sa.Column("sha256", sa.String(), nullable=False, unique=True),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
        sa.Column("revoked_at", sa.String()),
    )


def _forum() -> None:
    op.create_table(
        "votes",
        sa.Column("finding", sa.String(), sa.ForeignKey("findings.id"), primary_key=True),
        sa.Column("aar", sa.String(), sa.ForeignKey("aars.name"), primary_key=True),
        sa.Column("value", sa.Integer(), nullable=False),
    )
    op.create_table(
        "changes",
        sa.Column("seq", COUNTER, primary_key=True, autoincrement=True),
        sa.Column("finding", sa.String(), sa.ForeignKey("findings.id"), nullable=False, index=True),
    )
    op.create_table(
        "terms",
        sa.Column("finding", sa.String(), sa.ForeignKey("findings.id"), primary_key=True),
        sa.Column("term", sa.String(), primary_key=True, index=True),
    )


def _methods() -> None:
    op.create_table(
        "trees",
        sa.Column("snapshot", sa.String(), sa.ForeignKey("snapshots.id"), primary_key=True),
        sa.Column("sha256", sa.String(), nullable=False, index=True),
        sa.Column("parent", sa.String(), index=True),
    )
    op.create_table(
        "method_submissions",
        sa.Column("seq", COUNTER, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(), nullable=False, unique=True),
        sa.Column("aar", sa.String(), sa.ForeignKey("aars.name"), nullable=False, index=True),
        sa.Column(
            "snapshot", sa.String(), sa.ForeignKey("snapshots.id"), nullable=False, index=True
        ),
        sa.Column("task", sa.String()),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("at", sa.String(), nullable=False),
        sa.Column("refused", sa.Text()),
    )
