"""The operator's session in a browser: a signed cookie, a form token, strict headers.

Covered: forged, foreign and expired cookies; forms sent from elsewhere (SameSite and a form token
bound to the session); scripts, frames and requests to elsewhere (content security policy); an
AAR's token, which opens nothing here.
Not covered: whoever reads the operator's token or uses the operator's browser. Over plain HTTP the
cookie travels as it is: use the unix socket, a tunnel, or TLS in front.
"""

import hashlib
import hmac
import secrets
import time
from typing import Annotated

from fastapi import Depends, Request, Response

from aarlab.core.canonical import sha256_hex
from aarlab.core.errors import Forbidden
from aarlab.server.platform import Platform, platform_of

COOKIE, LIVES_S = "aarlab_operator", 12 * 3600
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "private, no-store",
}


class LoggedOut(Forbidden):
    """No session: the page asks for the operator's token."""


def log_in(platform: Platform, token: str, response: Response, secure: bool) -> None:
    """Set the session cookie; raises Forbidden for any token but the operator's."""
    platform.pace.admit("@login")
    if not hmac.compare_digest(sha256_hex(token), sha256_hex(platform.operator_token)):
        raise Forbidden("that is not the operator's token")
    body = f"{int(time.time()) + LIVES_S}.{secrets.token_hex(8)}"
    response.set_cookie(
        COOKIE,
        f"{body}.{_sign(platform, 'session', body)}",
        max_age=LIVES_S,
        httponly=True,
        samesite="strict",
        secure=secure,
    )


async def session_of(request: Request, platform: Annotated[Platform, Depends(platform_of)]) -> str:
    """The session's cookie; raises LoggedOut without a valid one."""
    cookie = request.cookies.get(COOKIE, "")
    body, _, signature = cookie.rpartition(".")
    expires = body.partition(".")[0]
    good = hmac.compare_digest(signature.encode(), _sign(platform, "session", body).encode())
    if not good or not expires.isdigit() or int(expires) < time.time():
        raise LoggedOut("log in with the operator's token")
    return cookie


def form_token(platform: Platform, cookie: str) -> str:
    """What a form of this session carries."""
    return _sign(platform, "form", cookie)


def check_form(platform: Platform, cookie: str, given: str) -> None:
    if not hmac.compare_digest(form_token(platform, cookie).encode(), given.encode()):
        raise Forbidden("this form is not of your session: open the page again and send it there")


def _sign(platform: Platform, purpose: str, text: str) -> str:
    key = platform.operator_token.encode()
    return hmac.new(key, f"{purpose}\n{text}".encode(), hashlib.sha256).hexdigest()


SessionDep = Annotated[str, Depends(session_of)]
