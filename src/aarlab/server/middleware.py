"""Middleware: limits on bodies, quiet crashes, request rates, ETags, and bodies as foreign JSON.

Bodies are limited while they are read. Rates per AAR are token buckets; the same code has the cheap
clock behind research time. Servers of one PostgreSQL share a bucket there, from which each takes
some tokens at a time. An SQLite file has one server, which counts in its memory.

Weak ETags are over the bodies of GET answers: `If-None-Match` with the same one gives 304. The
route has run by then, so the token, its scope and the rate count as for a full answer.

Covered: bodies over the limit, declared or streamed; unknown exceptions (500 without detail); a
full disk (507). The log gets the exception's type and frames, never its message, which may hold a
body or a label. Bodies of requests are read as foreign JSON (core.foreign) before a route sees
them: whatever `read_json` refuses is answered 422 with the reason, and nothing is run.
Not covered: slow senders; the operator's proxy limits those.
"""

import errno
import logging
import time
import traceback
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from sqlalchemy.exc import DBAPIError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aarlab.core.errors import BadInput, TooManyRequests
from aarlab.core.foreign import read_json
from aarlab.core.hashing import sha256_hex
from aarlab.server.problems import problem
from aarlab.store import shared
from aarlab.store.database import Database
from aarlab.store.place import is_damaged, sqlstate

DISK_FULL = "53100"  # PostgreSQL's code
logger = logging.getLogger("aarlab.server")


class Door:
    """`larger` has the limits of paths that begin so, in place of `max_body_bytes`."""

    def __init__(
        self, app: ASGIApp, max_body_bytes: int, larger: Mapping[str, int] | None = None
    ) -> None:
        self._app = app
        self._limit, self._larger = max_body_bytes, dict(larger or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answered, path = False, scope["path"]
        limits = (most for start, most in self._larger.items() if path.startswith(start))
        limit = next(limits, self._limit)

        async def watched_send(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            if self._declared(scope) > limit:
                await problem(413, "bad_input", _too_large(limit))(scope, receive, watched_send)
                return
            await self._app(scope, self._counted(receive, limit), watched_send)
        except Exception as error:  # noqa: BLE001 - the web handler's door (style.md 6)
            log_crash(str(scope.get("method")), str(scope.get("path")), error)
            if not answered:
                await _reply(error)(scope, receive, send)

    def _counted(self, receive: Receive, limit: int) -> Receive:
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                raise HTTPException(413, _too_large(limit))
            return message

        return counted

    def _declared(self, scope: Scope) -> int:
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit():
                return int(value[:20])
        return 0


def _too_large(limit: int) -> str:
    return f"the request body is over {limit:,} bytes"


def _reply(error: Exception) -> ASGIApp:
    if _disk_is_full(error):
        return problem(507, "error", "the platform's disk is full: nothing was written; free space")
    if is_damaged(error):
        text = (
            "the platform's database is damaged: stop the campaign and restore the file from a copy"
        )
        return problem(500, "damaged", text)
    return problem(500, "error", "the platform failed; the operator's log has the trace")


def _disk_is_full(error: Exception) -> bool:
    if isinstance(error, DBAPIError):
        # The driver's own text holds no values.
        return "disk is full" in str(error.orig) or sqlstate(error) == DISK_FULL
    return isinstance(error, OSError) and error.errno == errno.ENOSPC


def log_crash(method: str, path: str, error: Exception) -> None:
    logger.error("%s %s: %s", method, path[:200], _frames(error))


def _frames(error: BaseException) -> str:
    frames: TracebackType | None = error.__traceback__
    places = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(frames)]
    return f"{type(error).__module__}.{type(error).__qualname__} at " + " < ".join(reversed(places))


TOUCH_EVERY_S = 1.0
LEASES = 20  # parts of a burst: what a server takes at once


class Pace:
    def __init__(
        self,
        per_s: float,
        burst: int,
        what: str = "requests",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_s, self._burst, self._what, self._clock = per_s, burst, what, clock
        self._buckets: dict[str, tuple[float, float]] = {}
        self._touched: dict[str, float] = {}

    def admit(self, name: str) -> None:
        """Raise TooManyRequests when an AAR is over its rate."""
        now = self._clock()
        left, at = self._buckets.get(name, (float(self._burst), now))
        left = min(left + (now - at) * self._per_s, float(self._burst))
        if left < 1:
            self._buckets[name] = (left, now)
            wait_s = (1 - left) / self._per_s
            raise too_many(self._per_s, self._what, wait_s)
        self._buckets[name] = (left - 1, now)

    def touch_due(self, name: str) -> bool:
        """Return True at most once a second per AAR: time to extend its stored session."""
        now = self._clock()
        if now - self._touched.get(name, -TOUCH_EVERY_S) < TOUCH_EVERY_S:
            return False
        self._touched[name] = now
        return True


class SharedPace:
    """A rate over all servers of a database."""

    def __init__(self, database: Database, rate: shared.Rate) -> None:
        self._database, self._rate = database, rate
        self._alone = Pace(rate.per_s, rate.burst, rate.what)
        self._held: dict[str, int] = {}
        self._refused_until: dict[str, float] = {}

    async def admit(self, name: str) -> None:
        """Raise TooManyRequests when an AAR is over its rate; a flood asks the database rarely."""
        if not self._database.shared:
            self._alone.admit(name)
            return
        if self._held.get(name, 0) < 1:
            await self._take(name)
        self._held[name] = self._held.get(name, 0) - 1

    async def _take(self, name: str) -> None:
        rate, now = self._rate, time.monotonic()
        wait_s = self._refused_until.get(name, now) - now
        if wait_s <= 0:
            async with self._database.brief() as tx:
                most = max(rate.burst // LEASES, 1)
                taken, wait_s = await shared.take(tx, rate, name, most)
            self._held[name] = self._held.get(name, 0) + taken
            self._refused_until[name] = time.monotonic() + wait_s
        if wait_s > 0:
            raise too_many(rate.per_s, rate.what, wait_s)


def too_many(per_s: float, what: str, wait_s: float) -> TooManyRequests:
    said = f"over {per_s:g} {what} a second: wait {wait_s:.1f} s, try again"
    return TooManyRequests(said, wait_s)


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


WHAT = "malformed request"


class ForeignRequest(Request):
    async def json(self) -> Any:
        """Read the body once. FastAPI would turn our errors into a 400 without a reason."""
        if not hasattr(self, "_json"):
            try:
                self._json = read_json(await self.body(), WHAT)
            except BadInput as error:
                raise HTTPException(422, str(error)) from None
        return self._json


class StrictRoute(APIRoute):
    """`route_class` of every router of the API."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(ForeignRequest(request.scope, request.receive))

        return handle
