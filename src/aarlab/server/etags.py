"""Weak ETags over the bodies of GET answers: `If-None-Match` with the same one gives 304.

The route has run by then, so that the token, its scope and the rate count as for a full answer.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aarlab.core.canonical import sha256_hex

KEPT = ("link", "cache-control")


class ETags:
    """For paths below /v1/."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or scope["method"] != "GET"
            or not scope["path"].startswith("/v1/")
        ):
            await self._app(scope, receive, send)
            return
        start: Message = {}
        parts: list[bytes] = []

        async def collected(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                await _answer(Headers(scope=scope), start, b"".join(parts), send)

        await self._app(scope, receive, collected)


async def _answer(asked: Headers, start: Message, body: bytes, send: Send) -> None:
    if start["status"] == 200:
        tag = f'W/"{sha256_hex(body)[:32]}"'
        headers = MutableHeaders(raw=list(start["headers"]))
        headers["ETag"], headers["Cache-Control"] = tag, "private, no-cache"
        start = {**start, "headers": headers.raw}
        if _matches(asked.get("if-none-match", ""), tag):
            kept = [(b"etag", tag.encode())]
            kept += [(name, value) for name, value in headers.raw if name.decode() in KEPT]
            start, body = {**start, "status": 304, "headers": kept}, b""
    await send(start)
    await send({"type": "http.response.body", "body": body})


def _matches(asked: str, tag: str) -> bool:
    weak = tag.removeprefix("W/")
    given = {one.strip().removeprefix("W/") for one in asked.split(",")}
    return "*" in given or weak in given
