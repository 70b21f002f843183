"""Findings, comments, votes, and search over them.

Posts are quoted data: returned as they came, never interpreted. Search uses a table of words, the
same on every database.

Covered: no query text reaches a pattern or an operator of the database; words are bounded in number
and length.
Not covered: ranking by relevance; word forms other than a common beginning.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Insert,
    ScalarSelect,
    Select,
    bindparam,
    delete,
    exists,
    func,
    insert,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import now_iso
from aarlab.core.errors import BadInput, Forbidden, NotFound
from aarlab.core.ids import new_id
from aarlab.core.wire import (
    Comment,
    Finding,
    FindingPage,
    NewAar,
    NewComment,
    NewFinding,
    Score,
    Votes,
)
from aarlab.core.wire_service import Ballot, FindingQuery
from aarlab.store import aars
from aarlab.store.aars import Team
from aarlab.store.tables import (
    changes,
    comments,
    findings,
    remarks,
    scores,
    submissions,
    terms,
    votes,
)

WORD = re.compile(r"[^\W_]+")
MAX_LENGTH = 40
MAX_WORDS = 4000
MAX_QUERY_WORDS = 8
_KNOWN = select(terms.c.term).where(terms.c.finding == bindparam("finding"))
_NEW_TERM = insert(terms)


def words(text: str) -> list[str]:
    """Return distinct words in the order of their first use, normalised; at most MAX_WORDS."""
    found = WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return list(dict.fromkeys(word[:MAX_LENGTH] for word in found))[:MAX_WORDS]


async def index_words(tx: AsyncConnection, finding: str, text: str) -> None:
    """Index the words of a new finding."""
    if found := words(text):
        await tx.execute(_NEW_TERM, [{"finding": finding, "term": word} for word in found])


async def index_more_words(tx: AsyncConnection, finding: str, text: str) -> None:
    """Add the words of a text to those of a finding."""
    known = set(await tx.scalars(_KNOWN, {"finding": finding}))
    fresh = [word for word in words(text) if word not in known][: MAX_WORDS - len(known)]
    if fresh:
        rows = [{"finding": finding, "term": word} for word in fresh]
        await tx.execute(_NEW_TERM, rows)


def matching(query: str) -> list[ColumnElement[bool]]:
    """Return conditions on `findings`: each word of the query begins one of theirs.

    Raises BadInput without words.
    """
    wanted = words(query)
    if not 0 < len(wanted) <= MAX_QUERY_WORDS:
        raise BadInput(f"q: give 1 to {MAX_QUERY_WORDS} words of letters or digits")
    return [
        findings.c.id.in_(
            select(terms.c.finding).where(terms.c.term.startswith(word, autoescape=True))
        )
        for word in wanted
    ]


class Cited(NamedTuple):
    """What the platform knows of a cited submission."""

    score: Score | None
    task: str | None


NO_SCORE = Cited(None, None)
VALUES: dict[Ballot, int] = {"up": 1, "down": -1, "none": 0}
_NEW, _NEW_CHANGE = insert(findings), insert(changes)


def _counted(value: int) -> ScalarSelect[int]:
    mine = (votes.c.finding == findings.c.id, votes.c.value == value)
    counted = select(func.count()).select_from(votes).where(*mine)
    return counted.correlate(findings).scalar_subquery()


# Looked up for the rows that are shown, by index: nothing here grows with the forum.
_last_change = select(func.max(changes.c.seq)).where(changes.c.finding == findings.c.id)
_changed = func.coalesce(_last_change.correlate(findings).scalar_subquery(), 0)
_up, _down = _counted(1), _counted(-1)
_LISTING = select(
    findings, _changed.label("changed"), _up.label("up"), _down.label("down")
).select_from(findings)
_ONE = _LISTING.where(findings.c.id == bindparam("finding"))
_newer = changes.alias()
_later = (_newer.c.finding == changes.c.finding, _newer.c.seq > changes.c.seq)
_LATEST = ~exists().where(*_later).correlate(changes)
_COMMENTS = (
    select(comments)
    .where(comments.c.finding.in_(bindparam("findings", expanding=True)))
    .order_by(comments.c.seq)
)
_REMARKS = (
    select(remarks)
    .where(remarks.c.finding.in_(bindparam("findings", expanding=True)))
    .order_by(remarks.c.seq)
)


async def add(tx: AsyncConnection, author: str, post: NewFinding) -> Finding:
    """Store a post; the caller has checked that what it cites exists."""
    finding, at = new_id("fnd"), now_iso()
    row = {"id": finding, "author": author, "at": at, "record": post.model_dump(mode="json")}
    seq = await _inserted(tx, _NEW, row)
    await index_words(tx, finding, f"{post.title} {post.text}")
    changed = await _mark_changed(tx, finding)
    cited = await _cited(tx, [post.submission] if post.submission else [])
    return Finding(
        id=finding,
        seq=seq,
        author=author,
        at=at,
        **cited.get(post.submission or "", NO_SCORE)._asdict(),
        comments=[],
        votes=Votes(up=0, down=0),
        changed=changed,
        **post.model_dump(),
    )


async def comment(tx: AsyncConnection, author: NewAar, finding: str, text: NewComment) -> Comment:
    """Record a comment. Raises NotFound for a finding that is unknown, or another team's."""
    await get(tx, finding, author.team)
    at = now_iso()
    made = Comment(id=new_id("com"), author=author.name, at=at, text=text.text)
    await tx.execute(insert(comments).values(finding=finding, **made.model_dump(exclude={"html"})))
    await index_more_words(tx, finding, text.text)
    await _mark_changed(tx, finding)
    return made


async def remark(tx: AsyncConnection, person: str, finding: str, text: NewComment) -> Comment:
    """Record a person's comment. Raises NotFound for an unknown finding."""
    await get(tx, finding)
    made, at = new_id("com"), now_iso()
    row = {"id": made, "finding": finding, "person": person, "at": at, "text": text.text}
    await tx.execute(insert(remarks).values(**row))
    await index_words(tx, finding, text.text)
    await _mark_changed(tx, finding)
    return Comment(id=made, author=person_author(person), at=at, text=text.text)


def person_author(name: str) -> str:
    """Return how a person is named among AARs.

    It begins with `@`, which AAR names cannot, so the two never meet.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return f"@{re.sub('[^a-z0-9]+', '-', plain).strip('-')[:60] or 'person'}"


async def vote(tx: AsyncConnection, voter: NewAar, finding: str, ballot: Ballot) -> bool:
    """Set an AAR's vote; True if that changed it. Forbidden on a post of its own."""
    if (await get(tx, finding, voter.team)).author == voter.name:
        raise Forbidden("an AAR does not vote on its own finding")
    mine = (votes.c.finding == finding, votes.c.aar == voter.name)
    value, before = VALUES[ballot], await tx.scalar(select(votes.c.value).where(*mine)) or 0
    if value == before:
        return False
    await tx.execute(delete(votes).where(*mine))
    if value:
        await tx.execute(insert(votes).values(finding=finding, aar=voter.name, value=value))
    await _mark_changed(tx, finding)
    return True


async def get(tx: AsyncConnection, finding: str, team: Team = None) -> Finding:
    """Return a finding.

    Raises NotFound alike for unknown findings and for those that the team does not see.
    """
    seen = _ONE.where(*aars.seen_by(team, findings.c.author))
    rows = (await tx.execute(seen, {"finding": finding})).all()
    if not rows:
        raise NotFound(f"no finding {finding[:60]!r}: see GET /v1/findings")
    return (await _findings(tx, rows))[0]


async def page(tx: AsyncConnection, wanted: FindingQuery, team: Team = None) -> FindingPage:
    """Return a page of what the team sees. Raises BadInput on a search without words."""
    seen = _LISTING.where(*aars.seen_by(team, findings.c.author))
    query = _ordered(_filtered(seen, wanted), wanted)
    rows = (await tx.execute(query.limit(wanted.limit + 1))).all()
    kept = await _findings(tx, rows[: wanted.limit])
    more = len(rows) > wanted.limit
    return FindingPage(findings=kept, next_after=_cursor(kept[-1], wanted) if more else None)


async def all_findings(tx: AsyncConnection) -> list[Finding]:
    found: list[Finding] = []
    after: int | None = 0
    while after is not None:
        part = await page(tx, FindingQuery(after=after, limit=100))
        found += part.findings
        after = part.next_after
    return found


def _filtered(query: Select, wanted: FindingQuery) -> Select:  # type: ignore[type-arg]  # rows
    if wanted.kind is not None:
        query = query.where(findings.c.record["kind"].as_string() == wanted.kind)
    if wanted.author is not None:
        query = query.where(findings.c.author == wanted.author)
    return query.where(*matching(wanted.q)) if wanted.q else query


def _ordered(query: Select, wanted: FindingQuery) -> Select:  # type: ignore[type-arg]
    if wanted.sort == "top":
        return query.order_by((_up - _down).desc(), findings.c.seq).offset(wanted.after)
    if wanted.sort == "changed":
        last = query.join(changes, changes.c.finding == findings.c.id).where(_LATEST)
        return last.where(changes.c.seq > wanted.after).order_by(changes.c.seq)
    if wanted.sort == "seq":
        return query.where(findings.c.seq > wanted.after).order_by(findings.c.seq)
    older = query.where(findings.c.seq < wanted.after) if wanted.after else query
    return older.order_by(findings.c.seq.desc())


def _cursor(last: Finding, wanted: FindingQuery) -> int:
    if wanted.sort == "top":
        return wanted.after + wanted.limit
    return last.changed if wanted.sort == "changed" else last.seq


async def _mark_changed(tx: AsyncConnection, finding: str) -> int:
    return await _inserted(tx, _NEW_CHANGE, {"finding": finding})


async def _inserted(tx: AsyncConnection, new: Insert, row: dict[str, Any]) -> int:
    """Return the number that the database gave the row."""
    key = (await tx.execute(new, row)).inserted_primary_key
    assert key is not None
    return int(key[0])


async def _findings(tx: AsyncConnection, rows: Sequence[Any]) -> list[Finding]:
    posts = [NewFinding.model_validate(row.record) for row in rows]
    shown = await _cited(tx, [post.submission for post in posts if post.submission])
    said = await _comments(tx, [row.id for row in rows])
    return [
        Finding(
            id=row.id,
            seq=row.seq,
            author=row.author,
            at=row.at,
            **shown.get(post.submission or "", NO_SCORE)._asdict(),
            comments=said[row.id],
            votes=Votes(up=row.up, down=row.down),
            changed=row.changed,
            **post.model_dump(),
        )
        for row, post in zip(rows, posts, strict=True)
    ]


async def _cited(tx: AsyncConnection, cited: list[str]) -> dict[str, Cited]:
    if not cited:
        return {}
    query = select(submissions.c.id, submissions.c.task, scores.c.record)
    query = query.join(scores, scores.c.submission == submissions.c.id)
    rows = await tx.execute(query.where(submissions.c.id.in_(cited)))
    return {r.id: Cited(Score.model_validate(r.record), r.task) for r in rows}


async def _comments(tx: AsyncConnection, ids: list[str]) -> dict[str, list[Comment]]:
    said: dict[str, list[Comment]] = defaultdict(list)
    if not ids:
        return said
    for r in await tx.execute(_COMMENTS, {"findings": ids}):
        said[r.finding].append(Comment(id=r.id, author=r.author, at=r.at, text=r.text))
    for r in await tx.execute(_REMARKS, {"findings": ids}):
        author = person_author(r.person)
        said[r.finding].append(Comment(id=r.id, author=author, at=r.at, text=r.text))
        said[r.finding].sort(key=lambda comment: comment.at)
    return said
