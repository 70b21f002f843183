"""Every error becomes a Problem: a stable code and a message, without long echo or traceback."""

import math
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from aarlab.core.errors import (
    AarlabError,
    BadInput,
    BaselineMissing,
    BudgetExhausted,
    Conflict,
    Damaged,
    Forbidden,
    GapNotPositive,
    NotFound,
    Superseded,
    ToolFailed,
    TooManyRequests,
    Unavailable,
)
from aarlab.core.wire import Problem

STATUS: dict[type[AarlabError], int] = {
    BadInput: 422,
    NotFound: 404,
    Forbidden: 403,
    BudgetExhausted: 402,
    Conflict: 409,
    Superseded: 409,
    TooManyRequests: 429,
    GapNotPositive: 424,
    BaselineMissing: 424,
    ToolFailed: 424,
    Damaged: 503,
    Unavailable: 503,
}
SHOWN_FAULTS = 3
MAX_MESSAGE = 1000


class Unauthenticated(Forbidden):
    """The request has no token, or one that was never issued."""


def problem(status: int, code: str, message: str) -> JSONResponse:
    # Refused text may be no Unicode; the answer must be.
    printable = message[:MAX_MESSAGE].encode("utf-8", "replace").decode()
    body = Problem(code=code, message=printable)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse(body.model_dump(), status_code=status, headers=headers)


def known_problem(error: AarlabError) -> JSONResponse:
    status = 401 if isinstance(error, Unauthenticated) else STATUS.get(type(error), 503)
    answer = problem(status, error.code, str(error))
    if isinstance(error, TooManyRequests):
        answer.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    return answer


def add_handlers(app: FastAPI) -> None:
    app.add_exception_handler(AarlabError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


async def _known(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AarlabError)
    return known_problem(error)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return problem(422, BadInput.code, f"malformed request: {faults_text(error.errors())}")


def faults_text(faults: Sequence[Any]) -> str:
    """Name the place and the rule of the first faults. The refused values stay out."""
    shown = [
        f"{'.'.join(str(part)[:40] for part in fault['loc'][:6])}: {fault['msg'][:120]}"
        for fault in faults[:SHOWN_FAULTS]
    ]
    more = f" (and {len(faults) - SHOWN_FAULTS} more)" if len(faults) > SHOWN_FAULTS else ""
    return f"{'; '.join(shown)}{more}"


async def _http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    codes = {401: Forbidden.code, 403: Forbidden.code, 404: NotFound.code, 405: NotFound.code}
    code = codes.get(error.status_code, BadInput.code if error.status_code < 500 else "error")
    return problem(error.status_code, code, str(error.detail))
