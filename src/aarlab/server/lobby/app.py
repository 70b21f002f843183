"""The lobby's app: campaigns of a folder, a form for a new one, and the pages of each.

The pages of a campaign come from its own server and are shown below `/c/<name>`. The lobby runs
until it is stopped.

Covered: the API and MCP cannot be reached from here. The browser's cookies of the lobby never reach
a campaign. Who is logged in at the lobby is logged in at each campaign, under the same name and for
as long. A share link of a campaign opens that campaign alone.
"""

import asyncio
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from aarlab.core.errors import AarlabError, BadInput, Forbidden, NotFound, Unavailable
from aarlab.core.hashing import sha256_hex
from aarlab.core.layout import RunDir
from aarlab.server.auth import operator_token
from aarlab.server.dashboard import rendering
from aarlab.server.dashboard.rendering import HEADERS, fields, html
from aarlab.server.dashboard.session import (
    LIVES_S,
    check_form,
    matches,
    name_in,
    new_session,
    session_cookie,
    set_cookie,
    sign,
)
from aarlab.server.lobby import processes
from aarlab.server.lobby.processes import Checked, Commands, Fault, Processes
from aarlab.server.middleware import Door, Pace
from aarlab.server.problems import add_handlers, known_problem
from aarlab.server.serve import SHUTDOWN_S, tcp_listener

ASKED = ("accept", "content-type", "if-none-match", "sec-fetch-site", "hx-request", "hx-target")
ANSWERED = (
    *("content-type", "etag", "cache-control", "location", "set-cookie"),
    *("content-security-policy", "x-content-type-options", "referrer-policy"),
    *("cross-origin-opener-policy", "content-disposition"),
)
CLOSED = ("v1", "mcp", "health")
TIMEOUT_S = 60.0


def credentials(run: RunDir, session: str | None, cookies: Mapping[str, str]) -> str:
    """Return the Cookie header for the campaign's server.

    It is the operator's session, else a share link.
    """
    try:
        token = (run.tokens / "operator").read_text(encoding="utf-8").strip()
    except OSError:
        return ""
    mark = sha256_hex(token)[:8]
    if session is not None:
        expires, nonce, name = _parts(session)
        return f"aarlab_operator_{mark}={session_cookie(token, name, expires, nonce)}"
    share = cookies.get(f"aarlab_share_{mark}", "")
    return f"aarlab_share_{mark}={share}" if share else ""


def _parts(session: str) -> tuple[int, str, str]:
    expires, nonce, shown, _ = session.split(".")
    return int(expires), nonce, urlsafe_b64decode(shown + "=" * (-len(shown) % 4)).decode()


async def forward(request: Request, run: RunDir, path: str, cookie: str) -> Response:
    """Return the campaign's answer.

    Raises NotFound for a path that is not a page, Unavailable without a server.
    """
    if path.split("/", 1)[0] in CLOSED:
        raise NotFound("this is not one of the campaign's pages")
    headers = {name: value for name, value in request.headers.items() if name in ASKED}
    headers |= {"X-Aarlab-Base": f"/c/{quote(run.path.name, safe='')}", "Cookie": cookie}
    transport = httpx.AsyncHTTPTransport(uds=str(run.socket), verify=False)
    url = httpx.URL("http://campaign/").copy_with(raw_path=_raw_path(request))
    try:
        async with httpx.AsyncClient(transport=transport, timeout=TIMEOUT_S) as client:
            body = await request.body()
            got = await client.request(request.method, url, headers=headers, content=body)
    except httpx.HTTPError as error:
        name = run.path.name
        raise Unavailable(f"{name} does not answer ({type(error).__name__}): try again") from None
    answer = Response(got.content, got.status_code)
    for name, value in got.headers.multi_items():
        if name in ANSWERED:
            answer.headers.append(name, value)
    return answer


def _raw_path(request: Request) -> bytes:
    """Return path and query as sent, without `/c/<name>`, where any byte may be quoted."""
    path: bytes = request.scope["raw_path"].partition(b"?")[0]
    query: bytes = request.scope["query_string"]
    below = b"/" + path.split(b"/", 3)[3]
    return below + (b"?" + query if query else b"")


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
    """Make the folder, and in it the lobby's own token, on first use. Return the app."""
    folder.mkdir(parents=True, exist_ok=True)
    lobby = Lobby(folder, commands, operator_token(folder / TOKENS), Processes(folder, commands))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        await lobby.processes.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.lobby = lobby
    app.include_router(rendering.router)
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
    """Return the cookie of a session that is whole and has not expired."""
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
    found = {"campaigns": await asyncio.to_thread(processes.campaigns, lobby.runs)}
    if request.query_params.get("format") == "json":
        return JSONResponse(found, headers=HEADERS)
    return _page(lobby, session, "runs", found)


@router.post("/login")
async def login(request: Request, lobby: LobbyDep) -> Response:
    form = await fields(request)
    try:
        lobby.pace.admit("@login")
        if not matches(lobby.token, form.get("token", "")):
            raise Forbidden("wrong token for this list of campaigns")
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
    """Check a spec, and start it if that was asked for and nothing is wrong."""
    text = form.get("spec", "").replace("\r\n", "\n")
    found = await asyncio.to_thread(lobby.commands.check, text)
    if form.get("action") != "start" or found.faults:
        return _new(lobby, session or "", text, found, 422 if found.faults else 200)
    await lobby.processes.start(found.name, text)
    return RedirectResponse("/", 303, HEADERS)


@router.post("/resume/{name}")
async def resume(name: str, lobby: LobbyDep, _form: FormDep) -> Response:
    await lobby.processes.resume(processes.campaign(lobby.runs, name))
    return RedirectResponse("/", 303, HEADERS)


@router.api_route("/c/{name}", methods=["GET"])
@router.api_route("/c/{name}/{path:path}", methods=["GET", "POST"])
async def pages(
    name: str, request: Request, lobby: LobbyDep, session: SessionDep, path: str = ""
) -> Response:
    if not path and not request.url.path.endswith("/"):
        return RedirectResponse(f"/c/{quote(name, safe='')}/", 303, HEADERS)
    run = processes.campaign(lobby.runs, name)
    cookie = credentials(run, session, request.cookies)
    if session is None and not cookie and not path.startswith(("share/", "static/")):
        return _login("", 401)
    if path == "logout":
        raise BadInput(
            "log out on the page with the list of campaigns: one session serves all of them"
        )
    try:
        await lobby.processes.ready(run)
        # The token of a campaign that was just started is only there now.
        cookie = cookie or credentials(run, session, request.cookies)
        return await forward(request, run, path, cookie)
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


def serve_lobby(
    runs: Path,
    commands: Commands,
    host: str,
    port: int,
    listening: Callable[[], None] = lambda: None,
) -> None:
    """Serve on a host and port until a signal; call `listening` once the port is open.

    Raises Conflict if the port is taken. Campaigns that the lobby started continue without it.
    """
    runs.mkdir(parents=True, exist_ok=True)
    with tcp_listener(host, port) as listener:
        config = uvicorn.Config(
            create_lobby(runs, commands),
            log_config=None,
            access_log=False,
            lifespan="on",
            server_header=False,
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
        listening()
        uvicorn.Server(config).run(sockets=[listener])
