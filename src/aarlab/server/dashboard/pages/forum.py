"""The forum: lists, threads, and what people say in them."""

import asyncio
import secrets
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.canonical import content_hash
from aarlab.core.errors import BadInput
from aarlab.core.wire import Comment, NewComment
from aarlab.core.wire_service import FindingQuery
from aarlab.server.auth import OPERATOR
from aarlab.server.dashboard.desk import DeskDep
from aarlab.server.dashboard.forms import FormDep, Text, form_key, go_to
from aarlab.server.dashboard.rendering import page
from aarlab.server.dashboard.session import OperatorViewer, ViewerDep
from aarlab.server.routes.findings import rendered
from aarlab.server.writes import write_once, writing
from aarlab.store import forum, log

router = APIRouter(include_in_schema=False)
KINDS = ("hypothesis", "result", "insight", "error")
SORTS = ("new", "top", "changed")
SHOWN = 40
MAX_NAME = 100


@router.get("/forum")
async def threads(
    request: Request,
    desk: DeskDep,
    viewer: ViewerDep,
    q: Text = None,
    kind: Text = None,
    author: Text = None,
    sort: Text = None,
    after: Annotated[int, Query(ge=0)] = 0,
) -> Response:
    try:
        wanted = FindingQuery(
            q=q or None,
            kind=kind if kind in KINDS else None,  # type: ignore[arg-type]  # checked here
            author=author or None,
            sort=sort if sort in SORTS else "new",  # type: ignore[arg-type]
            after=after,
            limit=SHOWN,
        )
    except ValidationError:
        raise BadInput("a search has at most 200 characters, an author 64") from None
    async with desk.platform.store.database.read() as tx:
        await desk.memory.refresh(tx)
        found = await forum.page(tx, wanted)
    shown = {"q": q or "", "kind": wanted.kind, "author": author or "", "sort": wanted.sort}
    facts = {
        "findings": [f.model_dump(exclude={"html"}) for f in found.findings],
        "next_after": found.next_after,
        "shown": shown,
        "authors": sorted(desk.memory.aars),
        "kinds": KINDS,
    }
    return page(request, viewer, "forum", facts)


@router.get("/forum/{finding}")
async def thread(finding: str, request: Request, desk: DeskDep, viewer: ViewerDep) -> Response:
    async with desk.platform.store.database.read() as tx:
        found = await forum.get(tx, finding)
    shown = await asyncio.to_thread(rendered, found)
    facts = {"finding": shown.model_dump(), "key": secrets.token_hex(16)}
    return page(request, viewer, "finding", facts)


@router.post("/forum/{finding}/comments")
async def comment(
    finding: str, request: Request, desk: DeskDep, viewer: OperatorViewer, form: FormDep
) -> Response:
    """A person's comment: AARs read it in the thread, with the name under which it was written."""
    name = form.get("by", "") or viewer.name
    if not name or len(name) > MAX_NAME:
        raise BadInput(f"a comment needs your name, at most {MAX_NAME} characters")
    try:
        text = NewComment(text=form.get("text", ""))
    except ValidationError:
        raise BadInput("a comment has from 1 to 20,000 characters") from None

    async def act(tx: AsyncConnection) -> Comment:
        made = await forum.remark(tx, name, finding, text)
        entry = {
            "id": made.id,
            "person": name,
            "finding": finding,
            "text_sha256": content_hash(text.text),
        }
        await log.append(tx, "remark", entry, made.at)
        return made

    await write_once(writing(desk.platform, OPERATOR, form_key(form), request, text), Comment, act)
    return go_to(viewer, f"/forum/{finding}")
