"""The forum of a team: findings, comments, votes. A claim about a score cites a submission."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.canonical import content_hash
from aarlab.core.wire import Comment, Finding, FindingPage, NewAar, NewComment, NewFinding
from aarlab.core.wire_service import FindingQuery, Vote
from aarlab.server.auth import AarDep, PlatformDep
from aarlab.server.bodies import StrictRoute
from aarlab.server.markdown import render_markdown
from aarlab.server.writes import KeyDep, Writing, write_once, writing
from aarlab.store import forum, log, snapshots, submissions

router = APIRouter(prefix="/v1/findings", route_class=StrictRoute)

MAX_RENDERED = 20  # posts of a page; Markdown takes up to a quarter of a second each
Render = Annotated[bool, Query(description="fill `html` with safe HTML of the Markdown text")]


@router.post("")
async def post_finding(
    post: NewFinding, request: Request, aar: AarDep, platform: PlatformDep, key: KeyDep
) -> Finding:
    """May cite an own submission and any snapshot; NotFound where they do not exist."""
    return await add_finding(aar, writing(platform, aar.name, key, request, post), post)


async def add_finding(aar: NewAar, wanted: Writing, post: NewFinding) -> Finding:
    """Post a finding, for the route and the MCP tool."""
    platform = wanted.platform
    await platform.posts.admit(aar.name)

    async def act(tx: AsyncConnection) -> Finding:
        if post.submission is not None:
            await submissions.get_shown(tx, post.submission, aar.name)
        if post.snapshot is not None:
            await snapshots.get(tx, post.snapshot, aar.team)
        finding = await forum.add(tx, aar.name, post)
        entry = {
            "id": finding.id,
            "aar": aar.name,
            "kind": post.kind,
            "title": post.title,
            "text_sha256": content_hash(post.text),
            "submission": post.submission,
            "snapshot": post.snapshot,
        }
        await log.append(tx, "finding", entry, finding.at)
        return finding

    return await write_once(wanted, Finding, act)


@router.get("")
async def list_findings(
    aar: AarDep, platform: PlatformDep, wanted: Annotated[FindingQuery, Query()]
) -> FindingPage:
    """Findings page by page: oldest first, newest first, most votes first, or last changed last."""
    if wanted.render:
        wanted = wanted.model_copy(update={"limit": min(wanted.limit, MAX_RENDERED)})
    async with platform.store.database.read() as tx:
        page = await forum.page(tx, wanted, aar.team)
    if not wanted.render:
        return page
    shown = [await asyncio.to_thread(rendered, finding) for finding in page.findings]
    return page.model_copy(update={"findings": shown})


@router.get("/{finding}")
async def get_finding(
    finding: str, aar: AarDep, platform: PlatformDep, render: Render = False
) -> Finding:
    """One finding with its comments and votes."""
    async with platform.store.database.read() as tx:
        found = await forum.get(tx, finding, aar.team)
    return await asyncio.to_thread(rendered, found) if render else found


def rendered(finding: Finding) -> Finding:
    said = [
        comment.model_copy(update={"html": render_markdown(comment.text)})
        for comment in finding.comments
    ]
    return finding.model_copy(update={"html": render_markdown(finding.text), "comments": said})


@router.post("/{finding}/comments")
async def post_comment(
    finding: str,
    text: NewComment,
    request: Request,
    aar: AarDep,
    platform: PlatformDep,
    key: KeyDep,
) -> Comment:
    """Answer a finding."""
    return await add_comment(aar, writing(platform, aar.name, key, request, text), finding, text)


async def add_comment(aar: NewAar, wanted: Writing, finding: str, text: NewComment) -> Comment:
    """Add a comment to a finding, for the route and the MCP tool."""
    platform = wanted.platform
    await platform.posts.admit(aar.name)

    async def act(tx: AsyncConnection) -> Comment:
        comment = await forum.comment(tx, aar, finding, text)
        entry = {
            "id": comment.id,
            "aar": aar.name,
            "finding": finding,
            "text_sha256": content_hash(text.text),
        }
        await log.append(tx, "comment", entry, comment.at)
        return comment

    return await write_once(wanted, Comment, act)


@router.post("/{finding}/vote")
async def vote(
    finding: str,
    ballot: Vote,
    request: Request,
    aar: AarDep,
    platform: PlatformDep,
    key: KeyDep,
) -> Finding:
    """Set the own vote, one per AAR and finding; the same again changes nothing."""
    return await set_vote(aar, writing(platform, aar.name, key, request, ballot), finding, ballot)


async def set_vote(aar: NewAar, wanted: Writing, finding: str, ballot: Vote) -> Finding:
    """Vote on a finding, for the route and the MCP tool."""
    platform = wanted.platform
    await platform.posts.admit(aar.name)

    async def act(tx: AsyncConnection) -> Finding:
        if await forum.vote(tx, aar, finding, ballot.value):
            entry = {"aar": aar.name, "finding": finding, "value": ballot.value}
            await log.append(tx, "vote", entry)
        return await forum.get(tx, finding, aar.team)

    return await write_once(wanted, Finding, act)
