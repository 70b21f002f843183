"""AARs, their research-time sessions, tokens and usage, and whose work a team sees.

An AAR can have several tokens with scopes, which are kept as SHA-256. A revoked one is refused.
AARs of one team share findings and code; the operator sees all.

Covered: reads and citations of findings, comments, votes, snapshots, diffs and verified methods.
Not covered: numbers that count over the whole campaign (`seq`, `changed`) show that others post.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, ScalarSelect, Table, bindparam, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core import research_time
from aarlab.core.clock import now_iso, parse_iso
from aarlab.core.errors import Conflict, Forbidden, NotFound
from aarlab.core.ids import new_id
from aarlab.core.ledger import dollars_of, dollars_per_hour
from aarlab.core.research_time import Change, Stretch
from aarlab.core.wire import AarRecord, NewAar, OpenedSession, SessionRecord
from aarlab.core.wire_service import NewToken, NewWait, Scope, TokenRecord
from aarlab.store import controls, ledger
from aarlab.store.tables import (
    aars,
    method_submissions,
    sessions,
    submissions,
    supervised,
    teams,
    tokens,
)

Team = str | None  # None: everything, for the operator


async def add_to_team(tx: AsyncConnection, aar: str, team: str) -> None:
    await tx.execute(insert(teams).values(aar=aar, team=team))


def seen_by(team: Team, author: ColumnElement[Any]) -> list[ColumnElement[bool]]:
    """Return conditions under which a team sees work of `author`.

    `author` is a column with an AAR's name.
    """
    if team is None:
        return []
    return [author.in_(select(teams.c.aar).where(teams.c.team == team))]


async def team_members(tx: AsyncConnection, team: str) -> frozenset[str]:
    return frozenset(await tx.scalars(select(teams.c.aar).where(teams.c.team == team)))


_LIVE = (
    select(aars.c.record, aars.c.life, tokens.c.scopes)
    .join(aars, aars.c.name == tokens.c.aar)
    .where(tokens.c.sha256 == bindparam("sha256"), tokens.c.revoked_at.is_(None))
)


class Access(NamedTuple):
    """Whom a token stands for and what it opens.

    `life` is the newest one of the AAR's supervisor when the token was looked up.
    """

    aar: NewAar
    scopes: frozenset[Scope]
    life: int = 0

    def need(self, scope: Scope) -> NewAar:
        """Return the AAR. Raises Forbidden if the token does not have the scope."""
        if scope not in self.scopes:
            has = ", ".join(sorted(self.scopes))
            raise Forbidden(f"this token has the scope {has}; this request needs {scope}")
        return self.aar


async def add_token(tx: AsyncConnection, aar: str, new: NewToken, sha256: str) -> TokenRecord:
    """Record a token. Raises NotFound for an unknown AAR."""
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


async def access_of(tx: AsyncConnection, sha256: str) -> Access | None:
    """Return what a token that was not revoked opens."""
    row = (await tx.execute(_LIVE, {"sha256": sha256})).first()
    return row and Access(NewAar.model_validate(row.record), frozenset(row.scopes), row.life)


async def tokens_of(tx: AsyncConnection, aar: str) -> list[TokenRecord]:
    query = select(tokens).where(tokens.c.aar == aar).order_by(tokens.c.at, tokens.c.id)
    return [_token_record(row) for row in await tx.execute(query)]


async def revoke_token(tx: AsyncConnection, token: str) -> TokenRecord:
    """Revoke a token.

    Revoked twice it keeps its first time. Raises NotFound for an unknown id.
    """
    this = tokens.c.id == token
    live = tokens.c.revoked_at.is_(None)
    await tx.execute(update(tokens).where(this, live).values(revoked_at=now_iso()))
    row = (await tx.execute(select(tokens).where(this))).first()
    if row is None:
        raise NotFound(f"no token {token[:60]!r}: see GET /v1/operator/aars/<name>/tokens")
    return _token_record(row)


def _token_record(row: Any) -> TokenRecord:
    return TokenRecord(
        id=row.id,
        aar=row.aar,
        scopes=row.scopes,
        note=row.note,
        at=row.at,
        revoked_at=row.revoked_at,
    )


_RECORD = select(aars.c.record).where(aars.c.name == bindparam("aar"))
_SESSIONS = (
    select(sessions, supervised.c.kind, supervised.c.note)
    .outerjoin(supervised, supervised.c.session == sessions.c.id)
    .order_by(sessions.c.id)
)
_OWN_SESSIONS = _SESSIONS.where(sessions.c.aar == bindparam("aar"))
_NEWEST = _OWN_SESSIONS.order_by(None).order_by(sessions.c.id.desc()).limit(1)
_NEXT_LIFE = (
    update(aars)
    .where(aars.c.name == bindparam("aar"))
    .values(life=aars.c.life + 1)
    .returning(aars.c.life)
)
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
    await add_token(tx, aar.name, first, token_sha256)
    await add_to_team(tx, aar.name, aar.team)


async def get(tx: AsyncConnection, name: str) -> NewAar | None:
    row = (await tx.execute(_RECORD, {"aar": name})).first()
    return None if row is None else NewAar.model_validate(row.record)


async def all_records(tx: AsyncConnection) -> list[AarRecord]:
    rows = (await tx.execute(select(aars.c.record).order_by(aars.c.at, aars.c.name))).all()
    rate, records = (await ledger.budget_of_campaign(tx)).device_dollars_per_hour, []
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


async def open_session(tx: AsyncConnection, name: str) -> OpenedSession:
    """Start a life of the AAR's supervisor. The gap before it does not count as research time.

    Requests of earlier lives are refused from now on. Amounts reserved by an earlier life are
    released, since its call is over.
    """
    await ledger.release(tx, name)
    (life,) = (await tx.execute(_NEXT_LIFE, {"aar": name})).one()
    session = await _opened(tx, name, research_time.began(_now()))
    return OpenedSession(**session.model_dump(), life=life)


async def current_session(tx: AsyncConnection, name: str) -> OpenedSession:
    """Return the newest session of an AAR that has one, and the life that is the newest now."""
    session = (await all_sessions(tx, name, waits=True))[-1]
    life = (await tx.execute(select(aars.c.life).where(aars.c.name == name))).scalar_one()
    return OpenedSession(**session.model_dump(), life=life)


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
    """Return the research seconds of one AAR, or of all together."""
    return sum(seconds(session) for session in await all_sessions(tx, name))
