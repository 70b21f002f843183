"""Who looks at the dashboard: the operator, or somebody with a share link.

Covered: forged, foreign and expired cookies; forms sent from elsewhere (SameSite, Sec-Fetch-Site
and a form token bound to the session); scripts, frames and requests to elsewhere (content security
policy); an AAR's token, which opens nothing here; a flood of logins through the AARs' socket, which
does not use up those of the operator.
Not covered: whoever reads the operator's token or uses the operator's browser. Over plain HTTP the
cookie travels as it is: use a tunnel, or TLS in front.
"""

import base64
import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request, Response

from aarlab.core.errors import Forbidden
from aarlab.core.hashing import sha256_hex
from aarlab.server.dashboard.desk import Desk, desk_of
from aarlab.server.platform import Platform

LIVES_S = 12 * 3600
BASE = re.compile(r"/c/[A-Za-z0-9_~%-][A-Za-z0-9_.~%-]{0,1000}")  # a quoted folder name
MAX_NAME = 100


class LoggedOut(Forbidden):
    """The request has no session. The page asks for the operator's token."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks at a page.

    `name` is the person's, `form` the token of its forms, `base` what stands before each path. A
    share link is not an operator: it does not have a name or a form. It sees what a report would
    show, and figures of verified methods only after the campaign has ended.
    """

    operator: bool
    name: str = ""
    form: str = ""
    base: str = ""


def cookie_name(platform: Platform, what: str) -> str:
    """Return a name that differs by campaign.

    Browsers share cookies between the ports of a host.
    """
    return f"aarlab_{what}_{sha256_hex(platform.operator_token)[:8]}"


def base_of(request: Request) -> str:
    """Return the folder under which a lobby shows this campaign; empty without a lobby."""
    given = request.headers.get("x-aarlab-base", "")
    return given if BASE.fullmatch(given) and ".." not in given else ""


def session_cookie(operator_token: str, name: str, expires: int, nonce: str) -> str:
    """Return `<expires>.<nonce>.<name>.<signature>`.

    A lobby that holds the token makes one too.
    """
    shown = base64.urlsafe_b64encode(name[:MAX_NAME].encode()).decode().rstrip("=")
    body = f"{expires}.{nonce}.{shown}"
    return f"{body}.{sign(operator_token, 'session', body)}"


def log_in(platform: Platform, token: str, name: str, request: Request) -> str:
    """Return the cookie of a new session.

    Raises Forbidden for any token but the operator's.
    """
    way = "socket" if request.client is None else "tcp"
    platform.pace.admit(f"@login-{way}")
    if not matches(platform.operator_token, token):
        raise Forbidden("that is not the operator's token")
    return new_session(platform.operator_token, name)


def new_session(operator_token: str, name: str) -> str:
    """Return the cookie of a session that begins now."""
    expires = int(time.time()) + LIVES_S
    return session_cookie(operator_token, name, expires, secrets.token_hex(8))


def matches(secret: str, given: str) -> bool:
    return hmac.compare_digest(sha256_hex(secret), sha256_hex(given))


def set_cookie(response: Response, name: str, value: str, request: Request, lives_s: int) -> None:
    """Set a session's cookie.

    The operator's is never sent from other sites; a share link is opened from other sites.
    """
    response.set_cookie(
        name,
        value,
        max_age=lives_s,
        httponly=True,
        samesite="lax" if "share" in name else "strict",
        secure=request.url.scheme == "https",
    )


async def viewer_of(request: Request, desk: Annotated[Desk, Depends(desk_of)]) -> Viewer:
    """Return the operator, or a live share link. Raises LoggedOut without either."""
    platform = desk.platform
    cookie = request.cookies.get(cookie_name(platform, "operator"), "")
    if (name := name_in(platform.operator_token, cookie)) is not None:
        return Viewer(True, name, sign(platform.operator_token, "form", cookie), base_of(request))
    token = request.cookies.get(cookie_name(platform, "share"), "")
    if token and await desk.shares.is_live(token):
        return Viewer(False, base=base_of(request))
    raise LoggedOut("log in with the operator's token")


async def operator_of(viewer: Annotated[Viewer, Depends(viewer_of)]) -> Viewer:
    if not viewer.operator:
        raise Forbidden("a share link does not open this page: it is the operator's")
    return viewer


def check_form(token: str | None, given: str, request: Request) -> None:
    """Raise Forbidden on a form that is not of this session's pages; `token` None: no session."""
    elsewhere = request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")
    if elsewhere or token is None or not hmac.compare_digest(token.encode(), given.encode()):
        raise Forbidden("this form is not of your session: open the page again and send it there")


def name_in(operator_token: str, cookie: str) -> str | None:
    """Return the name in a cookie that is whole and not expired."""
    body, _, signature = cookie.rpartition(".")
    good = sign(operator_token, "session", body)
    parts = body.split(".")
    if len(parts) != 3 or not hmac.compare_digest(signature.encode(), good.encode()):
        return None
    try:
        name = base64.urlsafe_b64decode(parts[2] + "=" * (-len(parts[2]) % 4)).decode()
        return name if int(parts[0]) >= time.time() else None
    except ValueError:
        return None


def sign(operator_token: str, purpose: str, text: str) -> str:
    key = operator_token.encode()
    return hmac.new(key, f"{purpose}\n{text}".encode(), hashlib.sha256).hexdigest()


ViewerDep = Annotated[Viewer, Depends(viewer_of)]
OperatorViewer = Annotated[Viewer, Depends(operator_of)]
