"""The pages of one campaign, from its own server, below `/c/<name>`.

Covered: the API and MCP are not reached from here; the browser's cookies of the lobby never reach a
campaign; who is logged in at the lobby is logged in at each campaign, under the same name, for as
long; a share link of a campaign opens that campaign alone.
"""

from base64 import urlsafe_b64decode
from collections.abc import Mapping
from urllib.parse import quote

import httpx
from fastapi import Request, Response

from aarlab.core.canonical import sha256_hex
from aarlab.core.errors import NotFound, Unavailable
from aarlab.core.layout import RunDir
from aarlab.server.dashboard.session import session_cookie

ASKED = ("accept", "content-type", "if-none-match", "sec-fetch-site", "hx-request", "hx-target")
ANSWERED = (
    *("content-type", "etag", "cache-control", "location", "set-cookie"),
    *("content-security-policy", "x-content-type-options", "referrer-policy"),
    *("cross-origin-opener-policy", "content-disposition"),
)
CLOSED = ("v1", "mcp", "health")
TIMEOUT_S = 60.0


def credentials(run: RunDir, session: str | None, cookies: Mapping[str, str]) -> str:
    """The Cookie header for the campaign's server: the operator's session, else a share link."""
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
    """The campaign's answer; raises NotFound for what is no page, Unavailable without a server."""
    if path.split("/", 1)[0] in CLOSED:
        raise NotFound("this is not one of the campaign's pages")
    headers = {name: value for name, value in request.headers.items() if name in ASKED}
    headers |= {"X-Aarlab-Base": f"/c/{quote(run.path.name, safe='')}", "Cookie": cookie}
    transport = httpx.AsyncHTTPTransport(uds=str(run.socket))
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
