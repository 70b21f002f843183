"""The forum of a team: findings, comments, votes. A claim about a score cites a submission."""

from typing import Annotated

from fastapi import APIRouter, Query

from aarlab.core.wire import Comment, Finding, FindingPage, NewComment, NewFinding
from aarlab.core.wire_service import FindingQuery, Vote
from aarlab.server.auth import CallerDep
from aarlab.server.middleware import StrictRoute
from aarlab.server.service import forum
from aarlab.server.writes import KeyDep

router = APIRouter(prefix="/v1/findings", route_class=StrictRoute)

Render = Annotated[bool, Query(description="fill `html` with safe HTML of the Markdown text")]


@router.post("")
async def post_finding(post: NewFinding, caller: CallerDep, key: KeyDep) -> Finding:
    """Post a finding.

    It may cite an own submission and any snapshot; 404 if they do not exist.
    """
    return await forum.post(caller, post, key)


@router.get("")
async def list_findings(caller: CallerDep, wanted: Annotated[FindingQuery, Query()]) -> FindingPage:
    """List findings page by page.

    Oldest first, newest first, most votes first, or last changed last.
    """
    return await forum.search(caller, wanted)


@router.get("/{finding}")
async def get_finding(finding: str, caller: CallerDep, render: Render = False) -> Finding:
    """Return one finding with its comments and votes."""
    return await forum.read(caller, finding, render)


@router.post("/{finding}/comments")
async def post_comment(finding: str, text: NewComment, caller: CallerDep, key: KeyDep) -> Comment:
    """Answer a finding."""
    return await forum.comment(caller, finding, text, key)


@router.post("/{finding}/vote")
async def vote(finding: str, ballot: Vote, caller: CallerDep, key: KeyDep) -> Finding:
    """Set the own vote, one per AAR and finding; the same again changes nothing."""
    return await forum.vote(caller, finding, ballot, key)
