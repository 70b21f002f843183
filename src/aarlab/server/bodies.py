"""Bodies of requests, read as foreign JSON (core.foreign) before a route sees them.

Covered: whatever `read_json` refuses is answered 422 with the reason, and nothing is run.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from aarlab.core.errors import BadInput
from aarlab.core.foreign import read_json

WHAT = "malformed request"


class ForeignRequest(Request):
    async def json(self) -> Any:
        """Once; FastAPI would turn an error of ours into a 400 without a reason."""
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
