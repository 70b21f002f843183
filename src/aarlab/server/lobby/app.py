"""The lobby's app: campaigns of a folder, a new one, and the pages of each below `/c/<name>`."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from aarlab.core.errors import AarlabError, BadInput, Forbidden, Unavailable
from aarlab.server.auth import operator_token
from aarlab.server.dashboard import assets
from aarlab.server.dashboard.forms import fields
from aarlab.server.dashboard.rendering import HEADERS, html
from aarlab.server.dashboard.session import (
    LIVES_S,
    check_form,
    matches,
    name_in,
    new_session,
    set_cookie,
    sign,
)
from aarlab.server.door import Door
from aarlab.server.lobby import proxy, runs
from aarlab.server.lobby.commands import Checked, Commands, Fault
from aarlab.server.lobby.processes import Processes
from aarlab.server.pace import Pace
from aarlab.server.problems import add_handlers, known_problem

COOKIE, TOKENS, MAX_BODY = "aarlab_lobby", ".lobby", 1 << 20
router = APIRouter(include_in_schema=False)
Facts = dict[str, Any]


@dataclass
class Lobby:
    runs: Path
    commands: Commands
    token: str = field(repr=False)
    processes: Processes
    pace: Pace = field(default_factory=lambda: Pace(0.5, 10, "logins"))


def create_lobby(folder: Path, commands: Commands) -> FastAPI:
    """Makes the folder, and in it the lobby's own token, on first use."""
    folder.mkdir(parents=True, exist_ok=True)
    lobby = Lobby(folder, commands, operator_token(folder / TOKENS), Processes(folder, commands))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await lobby.processes.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.lobby = lobby
    app.include_router(assets.router)
    app.include_router(router)
    add_handlers(app)
    app.add_exception_handler(AarlabError, _said)
    app.add_middleware(Door, max_body_bytes=MAX_BODY)
    return app


async def _said(_request: Request, error: Exception) -> Response:
    assert isinstance(error, AarlabError)
    status = known_problem(error).status_code
    return html("error.html", {"base": "", "status": status, "message": str(error)[:1000]}, status)


def lobby_of(request: Request) -> Lobby:
    lobby: Lobby = request.app.state.lobby
    return lobby


LobbyDep = Annotated[Lobby, Depends(lobby_of)]


def session_in(request: Request, lobby: LobbyDep) -> str | None:
    """The cookie of a session that is whole and has not expired."""
    cookie = request.cookies.get(COOKIE, "")
    return cookie if name_in(lobby.token, cookie) is not None else None


SessionDep = Annotated[str | None, Depends(session_in)]


async def checked_form(request: Request, lobby: LobbyDep, session: SessionDep) -> dict[str, str]:
    form = await fields(request)
    token = None if session is None else sign(lobby.token, "form", session)
    check_form(token, form.get("form", ""), request)
    return form


FormDep = Annotated[dict[str, str], Depends(checked_form)]


@router.get("/")
async def campaigns(request: Request, lobby: LobbyDep, session: SessionDep) -> Response:
    if session is None:
        return _login("")
    found = {"campaigns": await asyncio.to_thread(runs.campaigns, lobby.runs)}
    if request.query_params.get("format") == "json":
        return JSONResponse(found, headers=HEADERS)
    return _page(lobby, session, "runs", found)


@router.post("/login")
async def login(request: Request, lobby: LobbyDep) -> Response:
    form = await fields(request)
    try:
        lobby.pace.admit("@login")
        if not matches(lobby.token, form.get("token", "")):
            raise Forbidden("that is not the lobby's token")
    except AarlabError as error:
        return _login(str(error), 403)
    answer = RedirectResponse("/", 303, HEADERS)
    cookie = new_session(lobby.token, form.get("name", ""))
    set_cookie(answer, COOKIE, cookie, request, LIVES_S)
    return answer


@router.post("/logout")
async def logout(_form: FormDep) -> Response:
    answer = RedirectResponse("/", 303, HEADERS)
    answer.delete_cookie(COOKIE)
    return answer


@router.get("/new")
async def new(lobby: LobbyDep, session: SessionDep, preset: str = "") -> Response:
    if session is None:
        return _login("")
    text = lobby.commands.presets.get(preset, next(iter(lobby.commands.presets.values()), ""))
    return _new(lobby, session, text, None)


@router.post("/new")
async def start(lobby: LobbyDep, session: SessionDep, form: FormDep) -> Response:
    """Look at a spec, and start it where that was asked for and nothing is wrong."""
    text = form.get("spec", "").replace("\r\n", "\n")
    found = await asyncio.to_thread(lobby.commands.check, text)
    if form.get("action") != "start" or found.faults:
        return _new(lobby, session or "", text, found, 422 if found.faults else 200)
    await lobby.processes.start(found.name, text)
    return RedirectResponse("/", 303, HEADERS)


@router.post("/resume/{name}")
async def resume(name: str, lobby: LobbyDep, _form: FormDep) -> Response:
    await lobby.processes.resume(runs.campaign(lobby.runs, name))
    return RedirectResponse("/", 303, HEADERS)


@router.api_route("/c/{name}", methods=["GET"])
@router.api_route("/c/{name}/{path:path}", methods=["GET", "POST"])
async def pages(
    name: str, request: Request, lobby: LobbyDep, session: SessionDep, path: str = ""
) -> Response:
    if not path and not request.url.path.endswith("/"):
        return RedirectResponse(f"/c/{quote(name, safe='')}/", 303, HEADERS)
    run = runs.campaign(lobby.runs, name)
    cookie = proxy.credentials(run, session, request.cookies)
    if session is None and not cookie and not path.startswith(("share/", "static/")):
        return _login("", 401)
    if path == "logout":
        raise BadInput("log out in the lobby: it is one session for all campaigns")
    try:
        await lobby.processes.ready(run)
        # The token of a campaign that was just started is only there now.
        cookie = cookie or proxy.credentials(run, session, request.cookies)
        return await proxy.forward(request, run, path, cookie)
    except Unavailable:
        if request.method != "GET":
            raise  # the person sends the form again
        return html("lobby/starting.html", {"base": "", "name": name}, 503)


def _new(
    lobby: Lobby, session: str, text: str, found: Checked | None, status: int = 200
) -> Response:
    lines = text.split("\n")
    faults = [
        {"line": f.line, "message": f.message, "text": _quoted(f, lines)}
        for f in (found.faults if found else ())
    ]
    facts = {
        "presets": list(lobby.commands.presets),
        "spec": text,
        "faults": faults,
        "estimate": found.estimate if found else (),
        "name": found.name if found else "",
        "checked": found is not None,
    }
    return _page(lobby, session, "new", facts, status)


def _quoted(fault: Fault, lines: Sequence[str]) -> str:
    """Return the line of a fault, at most 200 characters.

    Returns "" for a line that may hold a secret or does not exist.
    """
    shown = fault.quotable and 0 < fault.line <= len(lines)
    return lines[fault.line - 1][:200] if shown else ""


def _page(lobby: Lobby, session: str, name: str, facts: Facts, status: int = 200) -> Response:
    shared = {
        "base": "",
        "here": name,
        "folder": str(lobby.runs),
        "person": name_in(lobby.token, session) or "",
        "form": sign(lobby.token, "form", session),
    }
    return html(f"lobby/{name}.html", {**shared, **facts}, status)


def _login(error: str, status: int = 401) -> Response:
    return html("lobby/login.html", {"base": "", "error": error}, status)
