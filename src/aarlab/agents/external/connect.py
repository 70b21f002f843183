"""Settings with which an MCP client joins a campaign. The token is named, never written out."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

MCP_NAME = "aarlab"
TOKEN_VARIABLE = "AARLAB_TOKEN"
ClientKind = Literal["claude-code", "codex", "generic", "curl"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the platform answers over HTTP and where the AAR's token lies."""

    url: str
    token_file: Path

    @property
    def mcp(self) -> str:
        return f"{self.url.rstrip('/')}/mcp"

    @property
    def export(self) -> str:
        """The shell line that gives a client the token."""
        return f'export {TOKEN_VARIABLE}="$(cat {shlex.quote(str(self.token_file))})"'


def client_settings(place: Place, kind: ClientKind) -> str:
    """Text of one client's settings. Claude Code and Codex put the variable in by themselves; a
    generic client wants the token itself in its place."""
    if kind == "codex":
        return _codex(place)
    if kind == "curl":
        return _curl(place)
    return json.dumps(mcp_servers(place.mcp, f"${{{TOKEN_VARIABLE}}}"), indent=2)


def mcp_servers(url: str, token: str) -> dict[str, object]:
    """The form that Claude Code and most other clients read."""
    headers = {"Authorization": f"Bearer {token}"}
    return {"mcpServers": {MCP_NAME: {"type": "http", "url": url, "headers": headers}}}


def _codex(place: Place) -> str:
    return (
        f"[mcp_servers.{MCP_NAME}]\n"
        f"url = {json.dumps(place.mcp)}\n"
        f'bearer_token_env_var = "{TOKEN_VARIABLE}"'
    )


def _curl(place: Place) -> str:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    call |= {"params": {"name": "my_budget", "arguments": {}}}
    return (
        f'curl -sS {place.mcp} -H "Authorization: Bearer ${TOKEN_VARIABLE}" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        '  -H "Accept: application/json, text/event-stream" \\\n'
        f"  -d '{json.dumps(call)}'"
    )
