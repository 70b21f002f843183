"""The forum of a team: findings, comments, votes. A claim about a score cites a submission."""

import asyncio

from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.hashing import content_hash
from aarlab.core.wire import Comment, Finding, FindingPage, NewComment, NewFinding
from aarlab.core.wire_service import FindingQuery, Vote
from aarlab.server.markdown import render_markdown
from aarlab.server.service.caller import Caller
from aarlab.server.writes import write_once
from aarlab.store import forum, log, snapshots, submissions

MAX_RENDERED = 20  # posts of a page; Markdown takes up to a quarter of a second each


async def post(caller: Caller, new: NewFinding, key: str) -> Finding:
    """Post a finding; raises NotFound unless what it cites exists and the submission is its own."""
    aar, writing = caller.aar, caller.writing("POST /v1/findings", key, new)
    await caller.platform.posts.admit(aar.name)

    async def act(tx: AsyncConnection) -> Finding:
        if new.submission is not None:
            await submissions.get_shown(tx, new.submission, aar.name)
        if new.snapshot is not None:
            await snapshots.get(tx, new.snapshot, aar.team)
        finding = await forum.add(tx, aar.name, new)
        entry = {
            "id": finding.id,
            "aar": aar.name,
            "kind": new.kind,
            "title": new.title,
            "text_sha256": content_hash(new.text),
            "submission": new.submission,
            "snapshot": new.snapshot,
        }
        await log.append(tx, "finding", entry, finding.at)
        return finding

    return await write_once(writing, Finding, act)


async def search(caller: Caller, query: FindingQuery) -> FindingPage:
    """Return a page of findings: oldest, newest, most votes or last changed, as the query says."""
    if query.render:
        query = query.model_copy(update={"limit": min(query.limit, MAX_RENDERED)})
    async with caller.platform.store.database.read() as tx:
        page = await forum.page(tx, query, caller.aar.team)
    if not query.render:
        return page
    shown = [await asyncio.to_thread(rendered, finding) for finding in page.findings]
    return page.model_copy(update={"findings": shown})


async def read(caller: Caller, finding: str, render: bool = False) -> Finding:
    """Return one finding with its comments and votes; `render` fills `html`."""
    async with caller.platform.store.database.read() as tx:
        found = await forum.get(tx, finding, caller.aar.team)
    return await asyncio.to_thread(rendered, found) if render else found


def rendered(finding: Finding) -> Finding:
    """Return the finding with safe HTML of its Markdown, and of its comments'."""
    said = [
        comment.model_copy(update={"html": render_markdown(comment.text)})
        for comment in finding.comments
    ]
    return finding.model_copy(update={"html": render_markdown(finding.text), "comments": said})


async def comment(caller: Caller, finding: str, new: NewComment, key: str) -> Comment:
    """Add a comment to a finding."""
    writing = caller.writing(f"POST /v1/findings/{finding}/comments", key, new)
    await caller.platform.posts.admit(caller.aar.name)

    async def act(tx: AsyncConnection) -> Comment:
        made = await forum.comment(tx, caller.aar, finding, new)
        entry = {
            "id": made.id,
            "aar": caller.aar.name,
            "finding": finding,
            "text_sha256": content_hash(new.text),
        }
        await log.append(tx, "comment", entry, made.at)
        return made

    return await write_once(writing, Comment, act)


async def vote(caller: Caller, finding: str, ballot: Vote, key: str) -> Finding:
    """Set the caller's vote, one per AAR and finding; the same again changes nothing."""
    writing = caller.writing(f"POST /v1/findings/{finding}/vote", key, ballot)
    await caller.platform.posts.admit(caller.aar.name)

    async def act(tx: AsyncConnection) -> Finding:
        if await forum.vote(tx, caller.aar, finding, ballot.value):
            entry = {"aar": caller.aar.name, "finding": finding, "value": ballot.value}
            await log.append(tx, "vote", entry)
        return await forum.get(tx, finding, caller.aar.team)

    return await write_once(writing, Finding, act)
