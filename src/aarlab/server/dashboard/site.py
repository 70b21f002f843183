"""Adds the dashboard to the app: its routes, what they share, and error pages."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from aarlab.core.errors import AarlabError, BadInput
from aarlab.server.dashboard import rendering
from aarlab.server.dashboard.desk import Desk
from aarlab.server.dashboard.pages import (
    aar,
    audits,
    board,
    campaign,
    entrance,
    forum,
    log,
    method,
    tasks,
    transcripts,
)
from aarlab.server.dashboard.rendering import bare
from aarlab.server.dashboard.session import LoggedOut
from aarlab.server.platform import Platform
from aarlab.server.problems import faults_text, known_problem, problem

ROUTERS = (
    rendering.router,
    entrance.router,
    campaign.router,
    aar.router,
    board.router,
    method.router,
    audits.router,
    forum.router,
    transcripts.router,
    log.router,
    tasks.router,
)
API = ("/v1/", "/mcp", "/health")
Handler = Callable[[Request, Exception], Awaitable[Response]]


def add_dashboard(app: FastAPI, platform: Platform) -> None:
    """Add the dashboard to the app.

    Call it after the API's handlers: those continue to answer for the API.
    """
    app.state.desk = Desk(platform)
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(LoggedOut, _ask_for_token)
    for kind in (AarlabError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _for_people(app.exception_handlers[kind]))  # type: ignore[arg-type]


async def _ask_for_token(request: Request, error: Exception) -> Response:
    if _wants_json(request):
        return problem(401, "forbidden", str(error))
    return bare(request, "login.html", {"error": ""}, 401)


def _for_people(api: Handler) -> Handler:
    """Return a handler that answers browsers that look at the dashboard with a page.

    Everything else is passed to the API's handler.
    """

    async def handler(request: Request, error: Exception) -> Response:
        if request.url.path.startswith(API) or _wants_json(request):
            return await api(request, error)
        status, message = _said(error)
        return bare(request, "error.html", {"status": status, "message": message}, status)

    return handler


def _said(error: Exception) -> tuple[int, str]:
    if isinstance(error, AarlabError):
        return known_problem(error).status_code, str(error)[:1000]
    if isinstance(error, RequestValidationError):
        return 422, faults_text(error.errors())
    if isinstance(error, HTTPException):
        return error.status_code, str(error.detail)
    return 422, BadInput.code


def _wants_json(request: Request) -> bool:
    return request.query_params.get("format") == "json" or "text/html" not in request.headers.get(
        "accept", ""
    )
