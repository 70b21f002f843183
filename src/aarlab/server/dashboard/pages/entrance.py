"""Login, logout, share links in, and the page of share links."""

from dataclasses import asdict

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import BadInput, Forbidden
from aarlab.core.wire import Wire
from aarlab.server.auth import OPERATOR
from aarlab.server.dashboard.desk import DeskDep
from aarlab.server.dashboard.rendering import HEADERS, FormDep, bare, fields, form_key, go_to, page
from aarlab.server.dashboard.session import (
    LIVES_S,
    OperatorViewer,
    base_of,
    cookie_name,
    log_in,
    set_cookie,
)
from aarlab.server.writes import write_once, writing

router = APIRouter(include_in_schema=False)
MAX_DAYS, MAX_NOTE = 90, 100


class Revoked(Wire):
    id: str


@router.get("/login")
async def login_page(request: Request) -> Response:
    return bare(request, "login.html", {"error": ""}, 200)


@router.post("/login")
async def login(request: Request, desk: DeskDep) -> Response:
    form, answer = await fields(request), RedirectResponse(f"{base_of(request)}/", 303, HEADERS)
    try:
        cookie = log_in(desk.platform, form.get("token", ""), form.get("name", ""), request)
    except Forbidden as error:
        return bare(request, "login.html", {"error": str(error)}, 403)
    set_cookie(answer, cookie_name(desk.platform, "operator"), cookie, request, LIVES_S)
    return answer


@router.post("/logout")
async def logout(viewer: OperatorViewer, _form: FormDep, desk: DeskDep) -> Response:
    answer = go_to(viewer, "/")
    answer.delete_cookie(cookie_name(desk.platform, "operator"))
    return answer


@router.get("/share/{token}")
async def open_share(token: str, request: Request, desk: DeskDep) -> Response:
    """Open a share link. Its token moves out of the address into a cookie."""
    if not await desk.shares.is_live(token):
        error = "this share link has expired, was revoked, or is not one of this campaign"
        return bare(request, "login.html", {"error": error}, 403)
    answer = RedirectResponse(f"{base_of(request)}/", 303, HEADERS)
    lives_s = desk.shares.expires_in_s(token)
    set_cookie(answer, cookie_name(desk.platform, "share"), token, request, lives_s)
    return answer


@router.get("/shares")
async def share_page(request: Request, desk: DeskDep, viewer: OperatorViewer) -> Response:
    return await _shares(request, desk, viewer, "")


@router.post("/shares")
async def make_share(
    request: Request, desk: DeskDep, viewer: OperatorViewer, form: FormDep
) -> Response:
    """Make a share link. It is shown once, on the answer."""
    days = form.get("days", "7")
    if not (days.isascii() and days.isdigit() and len(days) < 9) or not 1 <= int(days) <= MAX_DAYS:
        raise BadInput(f"days: a whole number from 1 to {MAX_DAYS}")
    note, by = form.get("note", "")[:MAX_NOTE], viewer.name or "operator"
    async with desk.platform.store.database.write() as tx:
        token = await desk.shares.make(tx, note, by, int(days))
    return await _shares(request, desk, viewer, f"{viewer.base}/share/{token}")


@router.post("/shares/{share}/revoke")
async def revoke_share(
    share: str, request: Request, desk: DeskDep, viewer: OperatorViewer, form: FormDep
) -> Response:
    async def act(tx: AsyncConnection) -> Revoked:
        await desk.shares.revoke(tx, share, viewer.name or "operator")
        return Revoked(id=share)

    await write_once(writing(desk.platform, OPERATOR, form_key(form), request), Revoked, act)
    return go_to(viewer, "/shares")


async def _shares(request: Request, desk: DeskDep, viewer: OperatorViewer, link: str) -> Response:
    async with desk.platform.store.database.read() as tx:
        known = await desk.shares.all(tx)
    shares = [{**asdict(share), "live": share.live} for share in known]
    return page(request, viewer, "shares", {"shares": shares, "link": link})
