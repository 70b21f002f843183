"""The SDK's own MCP client on a running platform, and what its calls give."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from platform_kit import Running


@asynccontextmanager
async def connected(
    url: str, headers: dict[str, str], socket: Path | None = None
) -> AsyncIterator[Client]:
    """A client that knows an address and what to send with each request."""
    over = None if socket is None else httpx2.AsyncHTTPTransport(uds=str(socket), verify=False)
    async with (
        httpx2.AsyncClient(transport=over, headers=headers, trust_env=False, timeout=200) as inner,
        Client(streamable_http_client(url, http_client=inner)) as client,
    ):
        yield client


@asynccontextmanager
async def session(
    running: Running, token: str, url: str = "http://platform/mcp"
) -> AsyncIterator[Client]:
    """Over the unix socket, where no other address is given."""
    socket = running.run.socket if "platform" in url else None
    async with connected(url, {"Authorization": f"Bearer {token}"}, socket) as client:
        yield client


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    """The structured answer, or the text of the error."""
    result = await client.call_tool(tool, arguments)
    if result.is_error:
        return result.content[0].text
    return result.structured_content
