"""The forum: lists, threads, and what people say in them."""

import asyncio
import secrets
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field, ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import BadInput
from aarlab.core.hashing import content_hash
from aarlab.core.wire import Comment, NewComment
from aarlab.core.wire_service import MAX_CURSOR, FindingQuery
from aarlab.server.auth import OPERATOR
from aarlab.server.dashboard.desk import DeskDep
from aarlab.server.dashboard.rendering import FormDep, form_key, go_to, page
from aarlab.server.dashboard.session import OperatorViewer, ViewerDep
from aarlab.server.service.forum import rendered
from aarlab.server.writes import write_once, writing
from aarlab.store import forum, log

router = APIRouter(include_in_schema=False)
KINDS = ("hypothesis", "result", "insight", "error")
SHOWN = 40
MAX_NAME = 100


class Asked(BaseModel):
    """A request for posts. An empty field of a form means no filter."""

    q: Annotated[str, Field(max_length=200)] = ""
    kind: Literal["", "hypothesis", "result", "insight", "error"] = ""
    author: Annotated[str, Field(max_length=64)] = ""
    sort: Literal["new", "top", "changed"] = "new"
    after: Annotated[int, Field(ge=0, le=MAX_CURSOR)] = 0

    @property
    def query(self) -> FindingQuery:
        given = {name: value for name, value in self.model_dump().items() if value != ""}
        return FindingQuery.model_validate({**given, "limit": SHOWN})


@router.get("/forum")
async def threads(
    request: Request, desk: DeskDep, viewer: ViewerDep, wanted: Annotated[Asked, Query()]
) -> Response:
    async with desk.platform.store.database.read() as tx:
        await desk.memory.refresh(tx)
        found = await forum.page(tx, wanted.query)
    facts = {
        "findings": [f.model_dump(exclude={"html"}) for f in found.findings],
        "next_after": found.next_after,
        "shown": wanted.model_dump(),
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
    """Post a person's comment.

    AARs read it in the thread, with the name under which it was written.
    """
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
