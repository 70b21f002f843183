"""Settings with which an MCP client joins a campaign, ready to be pasted.

On this machine a client starts `aarlab aar bridge`, which connects to the campaign's socket and
reads the token from its file. Over HTTP the settings name the variable that holds the token. They
contain the token itself only on request.
"""

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
    """The address of the platform and the file of the AAR's token.

    Without a `url` the platform is reached through `socket` on this machine. The command `bridge`
    connects a client to it. So it does with the file of a `ca`, which most clients cannot be given.
    """

    token_file: Path
    socket: Path
    bridge: tuple[str, ...]
    url: str | None = None
    token: str | None = None
    ca: Path | None = None

    @property
    def bridged(self) -> bool:
        return self.url is None or self.ca is not None

    @property
    def mcp(self) -> str:
        return f"{(self.url or 'http://platform').rstrip('/')}/mcp"

    @property
    def export(self) -> str:
        """Return the shell line that gives a client the token."""
        return f'export {TOKEN_VARIABLE}="$(cat {shlex.quote(str(self.token_file))})"'

    @property
    def said_token(self) -> str:
        """Return the token where it may be shown, else a reference to its variable."""
        return self.token or f"${{{TOKEN_VARIABLE}}}"


def client_settings(place: Place, kind: ClientKind) -> str:
    """Return the settings of one kind of client as text."""
    if kind == "curl":
        return _curl(place)
    if kind == "codex":
        return _codex(place)
    if not place.bridged:
        return json.dumps(mcp_servers(place.mcp, place.said_token), indent=2)
    command, *words = place.bridge
    return json.dumps({"mcpServers": {MCP_NAME: {"command": command, "args": words}}}, indent=2)


def mcp_servers(url: str, token: str | None = None) -> dict[str, object]:
    """Return HTTP settings in the form that Claude Code and most other clients read."""
    server: dict[str, object] = {"type": "http", "url": url}
    if token is not None:
        server["headers"] = {"Authorization": f"Bearer {token}"}
    return {"mcpServers": {MCP_NAME: server}}


def _codex(place: Place) -> str:
    head = f"[mcp_servers.{MCP_NAME}]\n"
    if place.bridged:
        command, *words = place.bridge
        return f"{head}command = {json.dumps(command)}\nargs = {json.dumps(words)}"
    if place.token is not None:
        headers = f'{{ Authorization = "Bearer {place.token}" }}'
        return f"{head}url = {json.dumps(place.mcp)}\nhttp_headers = {headers}"
    return f'{head}url = {json.dumps(place.mcp)}\nbearer_token_env_var = "{TOKEN_VARIABLE}"'


def _curl(place: Place) -> str:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    call |= {"params": {"name": "my_budget", "arguments": {}}}
    where = "" if place.url is not None else f"--unix-socket {shlex.quote(str(place.socket))} "
    where += "" if place.ca is None else f"--cacert {shlex.quote(str(place.ca))} "
    token = place.token or f"${TOKEN_VARIABLE}"
    return (
        f'curl -sS {where}{place.mcp} -H "Authorization: Bearer {token}" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        '  -H "Accept: application/json, text/event-stream" \\\n'
        f"  -d '{json.dumps(call)}'"
    )
