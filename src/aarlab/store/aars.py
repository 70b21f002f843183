"""AARs, their research-time sessions, tokens and usage, and whose work a team sees.

An AAR can have several tokens with scopes, which are kept as SHA-256. A revoked one is refused.
AARs of one team share findings and code; the operator sees all.

Covered: reads and citations of findings, comments, votes, snapshots, diffs and verified methods.
Not covered: numbers that count over the whole campaign (`seq`, `changed`) show that others post.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    DateTime,
    ScalarSelect,
    Select,
    Table,
    bindparam,
    cast,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core import research_time
from aarlab.core.clock import now_iso, parse_iso
from aarlab.core.errors import Conflict, Forbidden, NotFound
from aarlab.core.ids import new_id
from aarlab.core.ledger import dollars_of, dollars_per_hour
from aarlab.core.research_time import Change, Stretch
from aarlab.core.wire import AarRecord, NewAar, OpenedSession, SessionRecord, Wanted
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
MOST_NAMED = 500  # AARs that a statement names; of more, all are read


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


def _moment(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return cast(column, DateTime(timezone=True))


_SECONDS: dict[str, ColumnElement[Any]] = {  # of a session, by the kind of database
    "sqlite": 86400
    * (func.julianday(sessions.c.last_seen_at) - func.julianday(sessions.c.started_at)),
    "postgresql": func.extract(
        "epoch", _moment(sessions.c.last_seen_at) - _moment(sessions.c.started_at)
    ),
}


_RESEARCH_OF_ALL = {
    database: select(func.sum(length))
    .select_from(sessions.outerjoin(supervised, supervised.c.session == sessions.c.id))
    .where(or_(supervised.c.kind.is_(None), supervised.c.kind == "research"))
    for database, length in _SECONDS.items()
}


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


async def records(tx: AsyncConnection, names: Collection[str] | None = None) -> list[AarRecord]:
    """Return what is known of all AARs, or of some, in the order of their registration.

    The number of statements does not grow with the number of AARs.
    """
    some = None if names is None or len(names) > MOST_NAMED else sorted(names)
    query = _named(select(aars.c.record).order_by(aars.c.at, aars.c.name), aars.c.name, some)
    known = [NewAar.model_validate(row.record) for row in await tx.execute(query)]
    rate = (await ledger.budget_of_campaign(tx)).device_dollars_per_hour
    wanted = await controls.wanted(tx)
    made, spent = await _counts(tx, submissions, some), await ledger.spent_by_aar(tx, some)
    lives_of: defaultdict[str, list[SessionRecord]] = defaultdict(list)
    for row in await tx.execute(_named(_SESSIONS, sessions.c.aar, some)):
        lives_of[row.aar].append(_session(row))
    return [
        _record(
            aar,
            made.get(aar.name, 0),
            spent.get(aar.name, {}),
            lives_of[aar.name],
            wanted.get(aar.name, wanted.get("", "run")),
            rate,
        )
        for aar in known
        if names is None or aar.name in names
    ]


def _record(
    aar: NewAar,
    made: int,
    spend: dict[str, float],
    lives: Sequence[SessionRecord],
    wanted: Wanted,
    rate: float,
) -> AarRecord:
    mine = sum(seconds(life) for life in lives if life.kind == "research")
    dollars = dollars_of(spend, rate)
    return AarRecord(
        **aar.model_dump(),
        research_s=mine,
        spend=spend,
        wanted=wanted,
        dollars=dollars,
        dollars_per_hour=dollars_per_hour(dollars, mine),
        submissions=made,
        started_at=min((life.started_at for life in lives), default=None),
        last_seen_at=max((life.last_seen_at for life in lives), default=None),
        waiting_s=sum(seconds(life) for life in lives if life.kind != "research"),
        waiting_for=_waiting_for(lives),
        waiting_since=_waiting_since(lives),
    )


def _named(query: Select[Any], column: ColumnElement[Any], names: list[str] | None) -> Select[Any]:
    return query if names is None else query.where(column.in_(names))


async def _counts(tx: AsyncConnection, table: Table, names: list[str] | None) -> dict[str, int]:
    query = select(table.c.aar, func.count().label("n")).group_by(table.c.aar)
    return {row.aar: row.n for row in await tx.execute(_named(query, table.c.aar, names))}


async def seen_after(tx: AsyncConnection, at: str) -> set[str]:
    """Return the AARs that gave a sign of life after a time."""
    query = select(sessions.c.aar).where(sessions.c.last_seen_at > at).distinct()
    return set(await tx.scalars(query))


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


async def lives(tx: AsyncConnection, names: Iterable[str]) -> dict[str, int]:
    """Return the newest life of each AAR's supervisor; 0 for an AAR that is not known."""
    asked = list(names)
    rows = await tx.execute(select(aars.c.name, aars.c.life).where(aars.c.name.in_(asked)))
    return dict.fromkeys(asked, 0) | {row.name: row.life for row in rows}


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
    return [_session(r) for r in rows if waits or r.kind in (None, "research")]


def _session(row: Any) -> SessionRecord:
    return SessionRecord(
        aar=row.aar,
        started_at=row.started_at,
        last_seen_at=row.last_seen_at,
        kind=row.kind or "research",
        note=row.note or "",
    )


def seconds(session: SessionRecord, until: str | None = None) -> float:
    """Return the length of a session in seconds, up to `until` (ISO time) if given."""
    end = parse_iso(session.last_seen_at)
    if until is not None:
        end = min(end, parse_iso(until))
    return max((end - parse_iso(session.started_at)).total_seconds(), 0.0)


async def usage(tx: AsyncConnection, name: str) -> Usage:
    """Return what an AAR has used."""
    made, asked = (await tx.execute(_MADE, {"aar": name})).one()
    return Usage(made, await research_s(tx, name), await ledger.spent(tx, name), asked)


async def research_s(tx: AsyncConnection, name: str | None = None) -> float:
    """Return the research seconds of one AAR, or of all together.

    The database adds up those of all, to 0.1 ms a session: every check of a campaign's limit asks.
    """
    if name is not None:
        return sum(seconds(session) for session in await all_sessions(tx, name))
    return float(await tx.scalar(_RESEARCH_OF_ALL[tx.dialect.name]) or 0)
