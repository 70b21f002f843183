"""The outer door of the app: limits bodies while they are read, and keeps crashes quiet.

Covered: bodies over the limit, declared or streamed; unknown exceptions (500 without detail), a
full disk (507). The log gets the exception's type and frames, never its message: that may hold a
body or a label.
Not covered: slow senders; the operator's proxy limits those.
"""

import errno
import logging
import traceback
from types import TracebackType

from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aarlab.server.problems import problem
from aarlab.store.outage import sqlstate

DISK_FULL = "53100"  # PostgreSQL's code
logger = logging.getLogger("aarlab.server")


class Door:
    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._limit = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answered = False

        async def watched_send(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            if self._declared(scope) > self._limit:
                await self._too_large()(scope, receive, watched_send)
                return
            await self._app(scope, self._counted(receive), watched_send)
        except Exception as error:  # noqa: BLE001 - the web handler's door (style.md 6)
            log_crash(str(scope.get("method")), str(scope.get("path")), error)
            if not answered:
                await _reply(error)(scope, receive, send)

    def _counted(self, receive: Receive) -> Receive:
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._limit:
                raise HTTPException(413, self._message())
            return message

        return counted

    def _declared(self, scope: Scope) -> int:
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit():
                return int(value[:20])
        return 0

    def _too_large(self) -> ASGIApp:
        return problem(413, "bad_input", self._message())

    def _message(self) -> str:
        return f"the request body is over {self._limit:,} bytes"


def _reply(error: Exception) -> ASGIApp:
    if _disk_is_full(error):
        return problem(507, "error", "the platform's disk is full: nothing was written; free space")
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
