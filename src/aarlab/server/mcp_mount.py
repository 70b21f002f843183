"""/mcp, loaded at its first request.

The protocol's library is a quarter of what a server imports, and few servers are ever asked.
"""

import asyncio
import contextlib
import importlib.util
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from starlette.types import Receive, Scope, Send

from aarlab.server.platform import Platform

if TYPE_CHECKING:
    from aarlab.server.mcp_endpoint import Endpoint


def mcp_installed() -> bool:
    """Return whether the extra `mcp` is there. Without it there is no /mcp."""
    return importlib.util.find_spec("mcp") is not None


class McpMount:
    """An ASGI app; `running` must be entered once, around all requests."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._asked = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load the endpoint when it is first asked for, and end it at the end."""
        self._endpoint: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()
        # The protocol's task group must be left by the task that entered it.
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _run(self) -> None:
        await self._asked.wait()
        try:
            module = await asyncio.to_thread(importlib.import_module, "aarlab.server.mcp_endpoint")
            endpoint: Endpoint = module.Endpoint(self._platform)
        except Exception as error:  # noqa: BLE001 - whoever asked gets it
            self._endpoint.set_exception(error)
            return
        async with endpoint.running():
            self._endpoint.set_result(endpoint)
            await asyncio.Event().wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._asked.set()
        endpoint = await asyncio.shield(self._endpoint)
        await endpoint(scope, receive, send)
