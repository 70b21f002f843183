"""The pages. Each is also JSON with `?format=json`."""

import asyncio
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import ValidationError

from aarlab.core.errors import BadInput, Forbidden
from aarlab.core.wire import NewVerdict, Verdict
from aarlab.core.wire_service import FindingQuery
from aarlab.server.auth import OPERATOR, PlatformDep
from aarlab.server.dashboard import views
from aarlab.server.dashboard.session import (
    COOKIE,
    HEADERS,
    LoggedOut,
    SessionDep,
    check_form,
    form_token,
    log_in,
)
from aarlab.server.markdown import render_markdown
from aarlab.server.platform import Platform
from aarlab.server.routes.operator_audits import record_verdict
from aarlab.server.routes.snapshots import read_snapshot
from aarlab.server.writes import write_once, writing
from aarlab.store import differences, forum

router = APIRouter(include_in_schema=False)
STYLE = (Path(__file__).parent / "static" / "style.css").read_text()
MAX_FORM = 64_000
PAGES = Environment(
    loader=PackageLoader("aarlab.server.dashboard"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
PAGES.filters["when"] = lambda at: at[:16].replace("T", " ")
PAGES.filters["markdown"] = lambda text: Markup(render_markdown(text))
Text = Annotated[str | None, Query(max_length=200)]


def add_dashboard(app: FastAPI) -> None:
    app.include_router(router)
    app.add_exception_handler(LoggedOut, _ask_for_token)


async def _ask_for_token(_request: Request, _error: Exception) -> Response:
    return _html("login.html", {"error": ""}, status=401)


@router.get("/style.css")
async def style() -> Response:
    return Response(STYLE, media_type="text/css", headers={"Cache-Control": "max-age=3600"})


@router.post("/login")
async def login(request: Request, platform: PlatformDep) -> Response:
    form, answer = await _form(request), RedirectResponse("/", 303, headers=HEADERS)
    try:
        log_in(platform, form.get("token", "").strip(), answer, request.url.scheme == "https")
    except Forbidden as error:
        return _html("login.html", {"error": str(error)}, status=403)
    return answer


@router.post("/logout")
async def logout(request: Request, platform: PlatformDep, session: SessionDep) -> Response:
    check_form(platform, session, (await _form(request)).get("form", ""))
    answer = RedirectResponse("/", 303, headers=HEADERS)
    answer.delete_cookie(COOKIE)
    return answer


@router.get("/")
async def campaign(request: Request, platform: PlatformDep, session: SessionDep) -> Response:
    async with platform.store.database.read() as tx:
        facts = await views.campaign(tx, platform)
    return _page(request, platform, session, "campaign", facts)


@router.get("/leaderboard")
async def leaderboard(
    request: Request,
    platform: PlatformDep,
    session: SessionDep,
    task: Text = None,
    aar: Text = None,
) -> Response:
    async with platform.store.database.read() as tx:
        facts = await views.leaderboard(tx, platform)
    shown = [
        e for e in facts["entries"] if task in (None, "", e["task"]) and aar in (None, "", e["aar"])
    ]
    return _page(request, platform, session, "leaderboard", {"entries": shown})


@router.get("/methods/{snapshot}")
async def method(
    snapshot: str, request: Request, platform: PlatformDep, session: SessionDep
) -> Response:
    async with platform.store.database.read() as tx:
        facts = await views.method(tx, snapshot)
    facts["files"] = await _changes(platform, snapshot, facts["snapshot"]["parent"])
    facts["key"] = secrets.token_hex(16)
    return _page(request, platform, session, "method", facts)


@router.post("/methods/{snapshot}/verdict")
async def give_verdict(
    snapshot: str, request: Request, platform: PlatformDep, session: SessionDep
) -> Response:
    """A person's decision, with the same effect as the API's."""
    form = await _form(request)
    check_form(platform, session, form.get("form", ""))
    given = {name: form.get(name, "").strip() for name in ("decision", "reason", "by")}
    try:
        new = NewVerdict.model_validate({"snapshot": snapshot, **given})
    except ValidationError:
        raise BadInput("a verdict needs a decision, a reason and your name") from None
    key = form.get("key", "")[:90] or secrets.token_hex(16)
    wanted = writing(platform, OPERATOR, f"form-{key}", request, new)
    await write_once(wanted, Verdict, lambda tx: record_verdict(tx, new))
    return RedirectResponse(f"/methods/{snapshot}", 303, headers=HEADERS)


@router.get("/audits")
async def audit_queue(
    request: Request, platform: PlatformDep, session: SessionDep, severity: Text = None
) -> Response:
    async with platform.store.database.read() as tx:
        facts = await views.audit_queue(tx, severity or None)
    return _page(request, platform, session, "audits", facts)


@router.get("/forum")
async def threads(
    request: Request, platform: PlatformDep, session: SessionDep, q: Text = None, after: int = 0
) -> Response:
    try:
        wanted = FindingQuery(q=q or None, sort="new", after=after, limit=50)
    except ValidationError:
        raise BadInput("after: a cursor from 0 up") from None
    async with platform.store.database.read() as tx:
        page = await forum.page(tx, wanted)
    return _page(request, platform, session, "forum", {**page.model_dump(), "q": q or ""})


@router.get("/forum/{finding}")
async def thread(
    finding: str, request: Request, platform: PlatformDep, session: SessionDep
) -> Response:
    async with platform.store.database.read() as tx:
        facts = (await forum.get(tx, finding)).model_dump()
    return _page(request, platform, session, "finding", {"finding": facts})


@router.get("/log")
async def entries(
    request: Request, platform: PlatformDep, session: SessionDep, before: int | None = None
) -> Response:
    async with platform.store.database.read() as tx:
        facts = await views.log_page(tx, before)
    return _page(request, platform, session, "log", facts)


async def _changes(platform: Platform, new: str, old: str | None) -> Sequence[dict[str, Any]]:
    after = differences.contents((await read_snapshot(platform, new)).files)
    before = {}
    if old is not None:
        before = differences.contents((await read_snapshot(platform, old)).files)
    found = await asyncio.to_thread(differences.differences, before, after)
    return [file.model_dump() for file in found]


async def _form(request: Request) -> dict[str, str]:
    """Fields of a form; the first of each name."""
    body = await request.body()
    if len(body) > MAX_FORM:
        raise BadInput(f"the form is over {MAX_FORM:,} bytes")
    try:
        fields = parse_qs(body.decode(), max_num_fields=20)
    except ValueError:
        raise BadInput("the form is not as a browser sends it") from None
    return {name: values[0] for name, values in fields.items()}


def _page(
    request: Request, platform: Platform, session: str, name: str, facts: dict[str, Any]
) -> Response:
    if request.query_params.get("format") == "json":
        return JSONResponse(facts, headers=HEADERS)
    shared = {"here": name, "form": form_token(platform, session), "query": request.query_params}
    return _html(f"{name}.html", {**shared, **facts})


def _html(template: str, facts: dict[str, Any], status: int = 200) -> Response:
    text = PAGES.get_template(template).render(facts)
    return HTMLResponse(text, status, headers=HEADERS)
