"""An MCP server on stdin and stdout that forwards every request to a campaign's server.

It is for clients that start a program and speak to it, as most do. They need no port, address or
token in their settings. The token stays in its file. After a campaign is restarted, the next call
is answered again.
"""

from pathlib import Path

import anyio
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    GetPromptRequestParams,
    GetPromptResult,
    InputRequiredResult,
    ListPromptsResult,
    ListResourcesResult,
    ListToolsResult,
    ReadResourceRequestParams,
    ReadResourceResult,
)

from aarlab.client.transport import Address, health
from aarlab.core.errors import Forbidden

ANSWER_S = 300.0  # a trial takes its time
NAME = "aarlab"


def run_bridge(address: Address, token_file: Path) -> None:
    """Serve MCP on stdin and stdout until stdin ends.

    Raises Unreachable where no server answers, and Forbidden where the token is refused.
    """
    health(address, deadline_s=5)
    anyio.run(_bridge, address, token_file.read_text(encoding="utf-8").strip())


async def _bridge(address: Address, token: str) -> None:
    if isinstance(address.place, Path):
        url = "http://platform/mcp"
        transport = httpx2.AsyncHTTPTransport(uds=str(address.place), verify=False)
    else:
        url = f"{address.place.rstrip('/')}/mcp"
        transport = httpx2.AsyncHTTPTransport(verify=address.verify())
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(
        transport=transport, headers=headers, timeout=ANSWER_S, trust_env=False
    ) as http:
        try:
            async with Client(streamable_http_client(url, http_client=http)) as client:
                server = _server(client)
                async with stdio_server() as (read, write):
                    await server.run(read, write, server.create_initialization_options())
        except* MCPError as failed:
            raise Forbidden(f"the platform refused the token: {failed.exceptions[0]}") from None


def _server(client: Client) -> Server[object]:
    """Return a server that passes every request to `client` and returns its answers and errors."""

    async def list_tools(_ctx: object, _params: object) -> ListToolsResult:
        return await client.list_tools()

    async def call_tool(
        _ctx: object, params: CallToolRequestParams
    ) -> CallToolResult | InputRequiredResult:
        return await client.session.call_tool(params.name, params.arguments or {})

    async def list_resources(_ctx: object, _params: object) -> ListResourcesResult:
        return await client.list_resources()

    async def read_resource(
        _ctx: object, params: ReadResourceRequestParams
    ) -> ReadResourceResult | InputRequiredResult:
        return await client.session.read_resource(params.uri)

    async def list_prompts(_ctx: object, _params: object) -> ListPromptsResult:
        return await client.list_prompts()

    async def get_prompt(
        _ctx: object, params: GetPromptRequestParams
    ) -> GetPromptResult | InputRequiredResult:
        return await client.session.get_prompt(params.name, params.arguments)

    return Server(
        NAME,
        instructions=client.instructions,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_read_resource=read_resource,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
    )
