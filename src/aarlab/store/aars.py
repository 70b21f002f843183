"""AARs, their research-time sessions, and what they have used."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import ScalarSelect, Table, bindparam, case, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import now_iso, parse_iso
from aarlab.core.errors import Conflict
from aarlab.core.ledger import dollars_of, dollars_per_hour
from aarlab.core.wire import AarRecord, NewAar, SessionRecord
from aarlab.core.wire_service import NewToken
from aarlab.store import budgets, controls, ledger, teams, tokens
from aarlab.store.tables import aars, method_submissions, sessions, submissions

_RECORD = select(aars.c.record).where(aars.c.name == bindparam("aar"))
_SESSIONS = select(sessions).order_by(sessions.c.id)
_OWN_SESSIONS = _SESSIONS.where(sessions.c.aar == bindparam("aar"))
_newest = (
    select(func.max(sessions.c.id)).where(sessions.c.aar == bindparam("aar_")).scalar_subquery()
)
_EXTEND = (
    update(sessions)
    .where(sessions.c.id == _newest, sessions.c.last_seen_at >= bindparam("resumed_at"))
    # The clock of another server may be ahead.
    .values(
        last_seen_at=case(
            (sessions.c.last_seen_at < bindparam("now"), bindparam("now")),
            else_=sessions.c.last_seen_at,
        )
    )
)


def _count(table: Table) -> ScalarSelect[int]:
    counted = select(func.count()).select_from(table).where(table.c.aar == bindparam("aar"))
    return counted.scalar_subquery()


_MADE = select(_count(submissions).label("made"), _count(method_submissions).label("asked"))


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
    await teams.add(tx, aar.name, aar.team)


async def get(tx: AsyncConnection, name: str) -> NewAar | None:
    row = (await tx.execute(_RECORD, {"aar": name})).first()
    return None if row is None else NewAar.model_validate(row.record)


async def all_records(tx: AsyncConnection) -> list[AarRecord]:
    rows = (await tx.execute(select(aars.c.record).order_by(aars.c.at, aars.c.name))).all()
    rate, records = (await budgets.get(tx)).device_dollars_per_hour, []
    lives_of: defaultdict[str, list[SessionRecord]] = defaultdict(list)
    for life in await all_sessions(tx):
        lives_of[life.aar].append(life)
    for row in rows:
        aar = NewAar.model_validate(row.record)
        lives = lives_of[aar.name]
        used = await usage(tx, aar.name, lives)
        dollars = dollars_of(used.spend, rate)
        records.append(
            AarRecord(
                **aar.model_dump(),
                research_s=used.research_s,
                spend=used.spend,
                wanted=(await controls.steering(tx, aar.name)).wanted,
                dollars=dollars,
                dollars_per_hour=dollars_per_hour(dollars, used.research_s),
                submissions=used.submissions,
                started_at=min((life.started_at for life in lives), default=None),
                last_seen_at=max((life.last_seen_at for life in lives), default=None),
            )
        )
    return records


async def open_session(tx: AsyncConnection, name: str) -> SessionRecord:
    """Start a life of the AAR's process; the gap before it is no research time.

    What an earlier life had reserved is released: its call is over.
    """
    now = now_iso()
    await ledger.release(tx, name)
    await tx.execute(insert(sessions).values(aar=name, started_at=now, last_seen_at=now))
    return SessionRecord(aar=name, started_at=now, last_seen_at=now)


async def touch(tx: AsyncConnection, name: str) -> None:
    """Extend the AAR's session to now; an AAR that opened none gets one.

    While it is paused no research time runs; it goes on in a session of its own.
    """
    steering = await controls.steering(tx, name)
    if steering.wanted == "pause":
        return
    values = {"aar_": name, "now": now_iso(), "resumed_at": steering.resumed_at}
    changed = await tx.execute(_EXTEND, values)
    if changed.rowcount == 0:
        await open_session(tx, name)


async def all_sessions(tx: AsyncConnection, name: str | None = None) -> list[SessionRecord]:
    rows = await (
        tx.execute(_SESSIONS) if name is None else tx.execute(_OWN_SESSIONS, {"aar": name})
    )
    return [
        SessionRecord(aar=r.aar, started_at=r.started_at, last_seen_at=r.last_seen_at) for r in rows
    ]


def seconds(session: SessionRecord, until: str | None = None) -> float:
    """Research seconds of a session, of those before `until` (ISO time) where given."""
    end = parse_iso(session.last_seen_at)
    if until is not None:
        end = min(end, parse_iso(until))
    return max((end - parse_iso(session.started_at)).total_seconds(), 0.0)


async def usage(
    tx: AsyncConnection, name: str, lives: Sequence[SessionRecord] | None = None
) -> Usage:
    """`lives` are the AAR's sessions, where the caller has them already."""
    made, asked = (await tx.execute(_MADE, {"aar": name})).one()
    mine = await research_s(tx, name) if lives is None else sum(map(seconds, lives))
    return Usage(made, mine, await ledger.spent(tx, name), asked)


async def research_s(tx: AsyncConnection, name: str | None = None) -> float:
    """Research seconds of one AAR, or of all together."""
    return sum(seconds(session) for session in await all_sessions(tx, name))
