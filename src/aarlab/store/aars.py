"""AARs, their research-time sessions, their spend and what is left of their budget."""

from typing import NamedTuple

from sqlalchemy import case, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import now_iso, parse_iso
from aarlab.core.errors import BudgetExhausted, Conflict
from aarlab.core.wire import AarRecord, Limits, Me, NewAar, SessionRecord, Spend
from aarlab.core.wire_service import NewToken
from aarlab.store import tokens
from aarlab.store.tables import aars, method_submissions, sessions, spend, submissions

TOKEN_KINDS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


class Usage(NamedTuple):
    """What an AAR has used so far."""

    submissions: int
    research_s: float
    spend: dict[str, float]
    methods: int = 0


async def add(tx: AsyncConnection, aar: NewAar, token_sha256: str) -> None:
    """Register an AAR with its first token; raises Conflict if the name is taken."""
    if await get(tx, aar.name) is not None:
        raise Conflict(f"an AAR named {aar.name!r} is registered already: choose another name")
    await tx.execute(
        insert(aars).values(
            name=aar.name,
            token_sha256=token_sha256,
            scope="aar",
            record=aar.model_dump(mode="json"),
            at=now_iso(),
        )
    )
    first = NewToken(scopes=["read", "write"], note="registration")
    await tokens.add(tx, aar.name, first, token_sha256)


async def get(tx: AsyncConnection, name: str) -> NewAar | None:
    row = (await tx.execute(select(aars.c.record).where(aars.c.name == name))).first()
    return None if row is None else NewAar.model_validate(row.record)


async def all_records(tx: AsyncConnection) -> list[AarRecord]:
    rows = (await tx.execute(select(aars.c.record).order_by(aars.c.at, aars.c.name))).all()
    records = []
    for row in rows:
        aar = NewAar.model_validate(row.record)
        used = await usage(tx, aar.name)
        records.append(AarRecord(**aar.model_dump(), research_s=used.research_s, spend=used.spend))
    return records


async def open_session(tx: AsyncConnection, name: str) -> SessionRecord:
    """Start a life of the AAR's process; the gap before it is no research time."""
    now = now_iso()
    await tx.execute(insert(sessions).values(aar=name, started_at=now, last_seen_at=now))
    return SessionRecord(aar=name, started_at=now, last_seen_at=now)


async def touch(tx: AsyncConnection, name: str) -> None:
    """Extend the AAR's session to now; an AAR that opened none gets one."""
    newest = select(func.max(sessions.c.id)).where(sessions.c.aar == name).scalar_subquery()
    now, seen = now_iso(), sessions.c.last_seen_at
    later = case((seen < now, now), else_=seen)  # the clock of another server may be ahead
    changed = await tx.execute(
        update(sessions).where(sessions.c.id == newest).values(last_seen_at=later)
    )
    if changed.rowcount == 0:
        await open_session(tx, name)


async def all_sessions(tx: AsyncConnection, name: str | None = None) -> list[SessionRecord]:
    query = select(sessions).order_by(sessions.c.id)
    if name is not None:
        query = query.where(sessions.c.aar == name)
    return [
        SessionRecord(aar=r.aar, started_at=r.started_at, last_seen_at=r.last_seen_at)
        for r in await tx.execute(query)
    ]


def seconds(session: SessionRecord, until: str | None = None) -> float:
    """Research seconds of a session, of those before `until` (ISO time) where given."""
    end = parse_iso(session.last_seen_at)
    if until is not None:
        end = min(end, parse_iso(until))
    return max((end - parse_iso(session.started_at)).total_seconds(), 0.0)


async def add_spend(tx: AsyncConnection, name: str, item: Spend) -> None:
    await tx.execute(insert(spend).values(aar=name, at=now_iso(), **item.model_dump()))


async def usage(tx: AsyncConnection, name: str) -> Usage:
    made, asked = [
        await tx.scalar(select(func.count()).select_from(table).where(table.c.aar == name))
        for table in (submissions, method_submissions)
    ]
    totals = await tx.execute(
        select(spend.c.kind, func.sum(spend.c.amount))
        .where(spend.c.aar == name)
        .group_by(spend.c.kind)
    )
    research_s = sum(seconds(session) for session in await all_sessions(tx, name))
    spent = {kind: float(total) for kind, total in totals}
    return Usage(made or 0, research_s, spent, asked or 0)


def submissions_left(limits: Limits, made: int) -> int | None:
    return None if limits.submissions is None else max(limits.submissions - made, 0)


def methods_left(limits: Limits, made: int) -> int | None:
    return None if limits.methods is None else max(limits.methods - made, 0)


def me(aar: NewAar, used: Usage) -> Me:
    return Me(
        name=aar.name,
        direction=aar.direction,
        limits=aar.limits,
        submissions_made=used.submissions,
        submissions_left=submissions_left(aar.limits, used.submissions),
        research_s=used.research_s,
        spend=used.spend,
        methods_made=used.methods,
        methods_left=methods_left(aar.limits, used.methods),
    )


def check_methods(aar: NewAar, used: Usage) -> None:
    """Raise BudgetExhausted when no request for verification is left."""
    if methods_left(aar.limits, used.methods) == 0:
        raise BudgetExhausted(
            f"{aar.name} has used {used.methods} of {aar.limits.methods} requests for "
            "verification: the budget is exhausted"
        )


def check_budget(aar: NewAar, used: Usage) -> None:
    """Raise BudgetExhausted, naming the limit that is used up."""
    tokens = sum(used.spend.get(kind, 0.0) for kind in TOKEN_KINDS)
    figures = (
        ("submissions", aar.limits.submissions, float(used.submissions)),
        ("research hours", aar.limits.hours, used.research_s / 3600),
        ("device seconds", aar.limits.device_s, used.spend.get("device_s", 0.0)),
        ("dollars", aar.limits.dollars, used.spend.get("dollars", 0.0)),
        ("tokens", aar.limits.tokens, tokens),
    )
    for what, limit, amount in figures:
        if limit is not None and amount >= limit:
            raise BudgetExhausted(
                f"{aar.name} has used {amount:g} of {limit:g} {what}: the budget is exhausted; "
                "snapshots and findings can still be posted"
            )
