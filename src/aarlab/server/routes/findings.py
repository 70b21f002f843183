"""The forum: findings, comments. A claim about a score cites a submission."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.canonical import content_hash
from aarlab.core.wire import Comment, Finding, FindingPage, NewComment, NewFinding
from aarlab.server.auth import AarDep, PlatformDep
from aarlab.server.writes import KeyDep, write_once, writing
from aarlab.store import forum, log, snapshots, submissions

router = APIRouter(prefix="/v1/findings")

Cursor = Annotated[int, Query(ge=0, le=2**53)]
PageSize = Annotated[int, Query(ge=1, le=100)]


@router.post("")
async def post_finding(
    post: NewFinding, request: Request, aar: AarDep, platform: PlatformDep, key: KeyDep
) -> Finding:
    """May cite an own submission and any snapshot; NotFound where they do not exist."""

    async def act(tx: AsyncConnection) -> Finding:
        if post.submission is not None:
            await submissions.get_shown(tx, post.submission, aar.name)
        if post.snapshot is not None:
            await snapshots.get(tx, post.snapshot)
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

    return await write_once(writing(platform, aar.name, key, request, post), Finding, act)


@router.get("")
async def list_findings(
    _aar: AarDep, platform: PlatformDep, after: Cursor = 0, limit: PageSize = 50
) -> FindingPage:
    async with platform.store.database.read() as tx:
        return await forum.page(tx, after, limit)


@router.get("/{finding}")
async def get_finding(finding: str, _aar: AarDep, platform: PlatformDep) -> Finding:
    async with platform.store.database.read() as tx:
        return await forum.get(tx, finding)


@router.post("/{finding}/comments")
async def post_comment(
    finding: str,
    text: NewComment,
    request: Request,
    aar: AarDep,
    platform: PlatformDep,
    key: KeyDep,
) -> Comment:
    async def act(tx: AsyncConnection) -> Comment:
        comment = await forum.comment(tx, aar.name, finding, text)
        entry = {
            "id": comment.id,
            "aar": aar.name,
            "finding": finding,
            "text_sha256": content_hash(text.text),
        }
        await log.append(tx, "comment", entry, comment.at)
        return comment

    return await write_once(writing(platform, aar.name, key, request, text), Comment, act)
