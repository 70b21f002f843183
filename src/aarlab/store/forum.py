"""Findings and comments. Posts are quoted data: returned as they came, never interpreted."""

from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import now_iso
from aarlab.core.errors import NotFound
from aarlab.core.ids import new_id
from aarlab.core.wire import Comment, Finding, FindingPage, NewComment, NewFinding, Score
from aarlab.store.tables import comments, findings, scores


async def add(tx: AsyncConnection, author: str, post: NewFinding) -> Finding:
    """Store a post; the caller has checked that what it cites exists."""
    finding, at = new_id("fnd"), now_iso()
    await tx.execute(
        insert(findings).values(
            id=finding, author=author, at=at, record=post.model_dump(mode="json")
        )
    )
    return await get(tx, finding)


async def comment(tx: AsyncConnection, author: str, finding: str, text: NewComment) -> Comment:
    """Raises NotFound for an unknown finding."""
    await get(tx, finding)
    added = Comment(id=new_id("com"), author=author, at=now_iso(), text=text.text)
    await tx.execute(insert(comments).values(finding=finding, **added.model_dump()))
    return added


async def get(tx: AsyncConnection, finding: str) -> Finding:
    row = (await tx.execute(select(findings).where(findings.c.id == finding))).first()
    if row is None:
        raise NotFound(f"no finding {finding[:60]!r}: see GET /v1/findings")
    return await _finding(tx, row)


async def page(tx: AsyncConnection, after: int, limit: int) -> FindingPage:
    """Findings with a `seq` above `after`, oldest first; `next_after` is None on the last page."""
    query = select(findings).where(findings.c.seq > after).order_by(findings.c.seq)
    rows = (await tx.execute(query.limit(limit + 1))).all()
    kept = [await _finding(tx, row) for row in rows[:limit]]
    return FindingPage(findings=kept, next_after=kept[-1].seq if len(rows) > limit else None)


async def all_findings(tx: AsyncConnection) -> list[Finding]:
    rows = (await tx.execute(select(findings).order_by(findings.c.seq))).all()
    return [await _finding(tx, row) for row in rows]


async def _finding(tx: AsyncConnection, row: Any) -> Finding:
    post = NewFinding.model_validate(row.record)
    return Finding(
        id=row.id,
        seq=row.seq,
        author=row.author,
        at=row.at,
        score=await _score(tx, post.submission),
        comments=await _comments(tx, row.id),
        **post.model_dump(),
    )


async def _score(tx: AsyncConnection, submission: str | None) -> Score | None:
    if submission is None:
        return None
    query = select(scores.c.record).where(scores.c.submission == submission)
    row = (await tx.execute(query)).first()
    return None if row is None else Score.model_validate(row.record)


async def _comments(tx: AsyncConnection, finding: str) -> list[Comment]:
    query = select(comments).where(comments.c.finding == finding).order_by(comments.c.seq)
    return [
        Comment(id=r.id, author=r.author, at=r.at, text=r.text) for r in await tx.execute(query)
    ]
