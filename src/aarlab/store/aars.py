"""AARs, their research-time sessions, and what they have used."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ScalarSelect, Table, bindparam, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core import research_time
from aarlab.core.clock import now_iso, parse_iso
from aarlab.core.errors import Conflict
from aarlab.core.ledger import dollars_of, dollars_per_hour
from aarlab.core.research_time import Change, Stretch
from aarlab.core.wire import AarRecord, NewAar, SessionRecord
from aarlab.core.wire_service import NewToken, NewWait
from aarlab.store import budgets, controls, ledger, teams, tokens
from aarlab.store.tables import aars, method_submissions, sessions, submissions, supervised

_RECORD = select(aars.c.record).where(aars.c.name == bindparam("aar"))
_SESSIONS = (
    select(sessions, supervised.c.kind, supervised.c.note)
    .outerjoin(supervised, supervised.c.session == sessions.c.id)
    .order_by(sessions.c.id)
)
_OWN_SESSIONS = _SESSIONS.where(sessions.c.aar == bindparam("aar"))
_NEWEST = _OWN_SESSIONS.order_by(None).order_by(sessions.c.id.desc()).limit(1)
_SEEN = (
    update(sessions).where(sessions.c.id == bindparam("id_")).values(last_seen_at=bindparam("seen"))
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
    for life in await all_sessions(tx, waits=True):
        lives_of[life.aar].append(life)
    for row in rows:
        aar = NewAar.model_validate(row.record)
        lives = lives_of[aar.name]
        waits = [life for life in lives if life.kind != "research"]
        used = await usage(tx, aar.name, [life for life in lives if life.kind == "research"])
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
                waiting_s=sum(map(seconds, waits)),
                waiting_for=_waiting_for(lives),
                waiting_since=_waiting_since(lives),
            )
        )
    return records


def _waiting_since(lives: Sequence[SessionRecord]) -> str | None:
    """Return when the current wait began, across pauses; None if the AAR is not waiting."""
    since = None
    for life in reversed(lives):
        if life.kind == "research":
            break
        since = life.started_at
    return since


def _waiting_for(lives: Sequence[SessionRecord]) -> str:
    last = lives[-1] if lives else None
    return "" if last is None or last.kind == "research" else f"{last.kind}: {last.note}"


async def open_session(tx: AsyncConnection, name: str) -> SessionRecord:
    """Start a life of the AAR's supervisor. The gap before it does not count as research time.

    Amounts reserved by an earlier life are released, since its call is over.
    """
    await ledger.release(tx, name)
    return await _opened(tx, name, research_time.began(_now()))


async def touch(tx: AsyncConnection, name: str, by_supervisor: bool = False) -> None:
    """Record a sign of life. No time is counted while the AAR is paused.

    An AAR that opened no session gets one.
    """
    steering = await controls.steering(tx, name)
    if steering.wanted == "pause":
        return
    resumed = parse_iso(steering.resumed_at) if steering.resumed_at else None
    number, last = await _newest(tx, name)
    change = research_time.alive(last, _now(), by_supervisor, resumed)
    await _changed(tx, name, number, last, change)


async def wait(tx: AsyncConnection, name: str, new: NewWait) -> SessionRecord:
    """Count the time from `new.ago_s` seconds ago as waiting, or as research again."""
    number, last = await _newest(tx, name)
    change = research_time.switched(last, _now(), new.kind, new.ago_s, new.note)
    made = await _changed(tx, name, number, last, change)
    assert made is not None
    return made


def _now() -> datetime:
    return parse_iso(now_iso())


async def _newest(tx: AsyncConnection, name: str) -> tuple[int | None, Stretch | None]:
    row = (await tx.execute(_NEWEST, {"aar": name})).first()
    if row is None:
        return None, None
    started, seen = parse_iso(row.started_at), parse_iso(row.last_seen_at)
    vouched = row.kind is not None
    return row.id, Stretch(started, seen, row.kind or "research", vouched, row.note or "")


async def _changed(
    tx: AsyncConnection, name: str, number: int | None, last: Stretch | None, change: Change
) -> SessionRecord | None:
    if change.last is not None and change.last != last:
        await tx.execute(_SEEN, {"id_": number, "seen": _iso(change.last.seen)})
    return None if change.opened is None else await _opened(tx, name, change.opened)


async def _opened(tx: AsyncConnection, name: str, new: Stretch) -> SessionRecord:
    times = {"started_at": _iso(new.started), "last_seen_at": _iso(new.seen)}
    added = insert(sessions).values(aar=name, **times).returning(sessions.c.id)
    (number,) = (await tx.execute(added)).one()
    if new.supervised:
        what = {"kind": new.kind, "note": new.note}
        await tx.execute(insert(supervised).values(session=number, **what))
    return SessionRecord(aar=name, kind=new.kind, note=new.note, **times)


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="microseconds")


async def all_sessions(
    tx: AsyncConnection, name: str | None = None, waits: bool = False
) -> list[SessionRecord]:
    """List stretches of research, of one AAR or of all; `waits` adds those of waiting."""
    rows = await (
        tx.execute(_SESSIONS) if name is None else tx.execute(_OWN_SESSIONS, {"aar": name})
    )
    return [
        SessionRecord(
            aar=r.aar,
            started_at=r.started_at,
            last_seen_at=r.last_seen_at,
            kind=r.kind or "research",
            note=r.note or "",
        )
        for r in rows
        if waits or r.kind in (None, "research")
    ]


def seconds(session: SessionRecord, until: str | None = None) -> float:
    """Return the length of a session in seconds, up to `until` (ISO time) if given."""
    end = parse_iso(session.last_seen_at)
    if until is not None:
        end = min(end, parse_iso(until))
    return max((end - parse_iso(session.started_at)).total_seconds(), 0.0)


async def usage(
    tx: AsyncConnection, name: str, lives: Sequence[SessionRecord] | None = None
) -> Usage:
    """Return what an AAR has used.

    `lives` are its stretches of research, if the caller has them already.
    """
    made, asked = (await tx.execute(_MADE, {"aar": name})).one()
    mine = await research_s(tx, name) if lives is None else sum(map(seconds, lives))
    return Usage(made, mine, await ledger.spent(tx, name), asked)


async def research_s(tx: AsyncConnection, name: str | None = None) -> float:
    """Research seconds of one AAR, or of all together."""
    return sum(seconds(session) for session in await all_sessions(tx, name))
