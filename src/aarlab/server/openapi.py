"""The OpenAPI document: AAR routes for an AAR's token, all routes for the operator's.

Every route answers the same errors in the same form, so they are written here once, by rule.
"""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from aarlab.core.wire import Problem
from aarlab.server.auth import IsOperatorDep

OPERATOR_PREFIX = "/v1/operator"
FASTAPI_ERRORS = ("HTTPValidationError", "ValidationError")
ERRORS = {
    401: "no token, or one that is unknown or revoked",
    402: "a limit of the AAR is used up; nothing was written",
    403: "the token does not open this route or thing",
    404: "something that the request names does not exist",
    409: "the idempotency key was used for another request, or the state does not allow it",
    413: "the body is over the limit",
    422: "malformed; the message says where; nothing was written",
    424: "the task has no usable baselines, or a tool of an installed package failed",
    429: "too fast: wait as many seconds as Retry-After says",
    500: "the platform failed; the operator's log has the trace",
    503: "something on disk is damaged, or does not answer",
}
READS = (401, 403, 404, 422, 429, 500, 503)
WRITES = (*READS, 409, 413)


def openapi_router(routers: Sequence[APIRouter]) -> APIRouter:
    """Return one route, /v1/openapi.json, that describes those of `routers`."""
    router = APIRouter(prefix="/v1")
    routes = [route for described in routers for route in described.routes]

    @router.get("/openapi.json", include_in_schema=False)
    async def openapi(operator: IsOperatorDep) -> JSONResponse:
        return JSONResponse(document(routes, operator))

    return router


def document(routes: Sequence[BaseRoute], operator: bool) -> dict[str, Any]:
    shown = [
        route
        for route in routes
        if isinstance(route, APIRoute) and (operator or not route.path.startswith(OPERATOR_PREFIX))
    ]
    made = get_openapi(title="aarlab platform", version="1", routes=shown, description=__doc__)
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    for name in FASTAPI_ERRORS:
        schemas.pop(name, None)
    schemas["Problem"] = Problem.model_json_schema()
    made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    made["security"] = [{"token": []}]
    for operations in made["paths"].values():
        for method, operation in operations.items():
            _describe(method, operation)
    return made


def _describe(method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    declared = [int(code) for code in responses if int(code) in ERRORS]
    for code in sorted({*(READS if method == "get" else WRITES), *declared}):
        schema = {"$ref": "#/components/schemas/Problem"}
        responses[str(code)] = {
            "description": ERRORS[code],
            "content": {"application/json": {"schema": schema}},
        }
    if method == "get":
        responses["304"] = {"description": "unchanged since the ETag in If-None-Match"}
