"""Tokens of AARs: several each, with scopes, kept as SHA-256; a revoked one opens nothing."""

from typing import Any, NamedTuple

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import now_iso
from aarlab.core.errors import Forbidden, NotFound
from aarlab.core.ids import new_id
from aarlab.core.wire import NewAar
from aarlab.core.wire_service import NewToken, Scope, TokenRecord
from aarlab.store.tables import aars, tokens

_LIVE = (
    select(aars.c.record, tokens.c.scopes)
    .join(aars, aars.c.name == tokens.c.aar)
    .where(tokens.c.sha256 == bindparam("sha256"), tokens.c.revoked_at.is_(None))
)


class Access(NamedTuple):
    """Whom a token stands for and what it opens."""

    aar: NewAar
    scopes: frozenset[Scope]

    def need(self, scope: Scope) -> NewAar:
        """The AAR, or Forbidden where the token has not the scope."""
        if scope not in self.scopes:
            has = ", ".join(sorted(self.scopes))
            raise Forbidden(f"this token has the scope {has}; this request needs {scope}")
        return self.aar


async def add(tx: AsyncConnection, aar: str, new: NewToken, sha256: str) -> TokenRecord:
    """Raises NotFound for an unknown AAR."""
    if await tx.scalar(select(aars.c.name).where(aars.c.name == aar)) is None:
        raise NotFound(f"no AAR {aar[:64]!r}: see GET /v1/operator/aars")
    made = TokenRecord(
        id=new_id("tok"),
        aar=aar,
        scopes=sorted(set(new.scopes)),
        note=new.note,
        at=now_iso(),
        revoked_at=None,
    )
    await tx.execute(insert(tokens).values(sha256=sha256, **made.model_dump()))
    return made


async def by_hash(tx: AsyncConnection, sha256: str) -> Access | None:
    """What a token that was not revoked opens."""
    row = (await tx.execute(_LIVE, {"sha256": sha256})).first()
    return row and Access(NewAar.model_validate(row.record), frozenset(row.scopes))


async def of_aar(tx: AsyncConnection, aar: str) -> list[TokenRecord]:
    query = select(tokens).where(tokens.c.aar == aar).order_by(tokens.c.at, tokens.c.id)
    return [_record(row) for row in await tx.execute(query)]


async def revoke(tx: AsyncConnection, token: str) -> TokenRecord:
    """Revoked twice it keeps its first time; raises NotFound for an unknown id."""
    this = tokens.c.id == token
    live = tokens.c.revoked_at.is_(None)
    await tx.execute(update(tokens).where(this, live).values(revoked_at=now_iso()))
    row = (await tx.execute(select(tokens).where(this))).first()
    if row is None:
        raise NotFound(f"no token {token[:60]!r}: see GET /v1/operator/aars/<name>/tokens")
    return _record(row)


def _record(row: Any) -> TokenRecord:
    return TokenRecord(
        id=row.id,
        aar=row.aar,
        scopes=row.scopes,
        note=row.note,
        at=row.at,
        revoked_at=row.revoked_at,
    )
