"""The MCP endpoint /mcp: the AAR's tools for agents that speak the Model Context Protocol.

Covered: the token is checked as by the routes, before the protocol sees the request. The operator's
token is refused here. Tools call the functions behind the routes (`server.service`), so budgets,
refusals and log entries are the same. What `core.foreign` refuses is refused before the protocol
reads it. Crashes are logged without their message and reported without detail.
Not covered: notifications and streams; every call is one request with one answer.
"""

import logging
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.prompts import Prompt
from mcp.server.mcpserver.resources import FunctionResource
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import Tool, ToolAnnotations
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from aarlab.agents.external import texts
from aarlab.core.errors import AarlabError, BadInput
from aarlab.core.foreign import read_json
from aarlab.core.problem import ProblemFacts
from aarlab.server.auth import admitted
from aarlab.server.mcp_schemas import input_schema, written_out
from aarlab.server.mcp_tools import ACCESS, mcp_function
from aarlab.server.middleware import WHAT, log_crash
from aarlab.server.platform import Platform
from aarlab.server.problems import MAX_MESSAGE, faults_text, known_problem, problem
from aarlab.server.service.tools import offered
from aarlab.server.tasks import problem_of

NAME = "aarlab"
PARSE_ERROR = -32700  # of JSON-RPC
READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
WRITES = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)


class Endpoint:
    """An ASGI app; `running` must be entered once, around all requests."""

    def __init__(self, platform: Platform) -> None:
        # Its own log lines carry arguments and exceptions: the door logs what may be logged.
        logging.getLogger("mcp").setLevel(logging.CRITICAL + 1)
        self._platform = platform
        about = problem_of(platform)
        said = texts.instructions(about)
        self._server = PlatformServer(NAME, instructions=said, log_level="CRITICAL")
        for tool in offered(platform):
            self._server.add_tool(
                mcp_function(platform, tool),
                name=tool.name,
                description=tool.about,
                annotations=READS if tool.method == "GET" else WRITES,
            )
        _add_texts(self._server, about)
        self._server.streamable_http_app(
            stateless_http=True,
            json_response=True,
            max_request_body_size=platform.settings.max_body_bytes,
            # Tokens authorise, no cookie does: a rebound name gains nothing.
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )

    def running(self) -> AbstractAsyncContextManager[None]:
        return self._server.session_manager.run()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            answer = problem(405, "bad_input", "/mcp takes POST: each call is one request")
            await answer(scope, receive, send)
            return
        try:
            access = await admitted(Request(scope), self._platform)
        except AarlabError as error:
            await known_problem(error)(scope, receive, send)
            return
        body = await Request(scope, receive).body()
        try:
            read_json(body, WHAT)
        except BadInput as error:
            await _unread(error)(scope, receive, send)
            return
        inner = {**scope, ACCESS: access}
        await self._server.session_manager.handle_request(inner, _again(body, receive), send)


def _unread(error: BadInput) -> JSONResponse:
    fault = {"code": PARSE_ERROR, "message": str(error)}
    return JSONResponse({"jsonrpc": "2.0", "id": None, "error": fault}, 400)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a Receive that repeats what was read of a request, then whatever comes after it."""
    whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> Message:
        return whole.pop() if whole else await receive()

    return read


def _add_texts(server: MCPServer[Any], about: ProblemFacts) -> None:
    """Add the texts of the tools as resources and a prompt, for clients that show those."""

    def contract() -> str:
        return texts.method_contract(about).text

    async def begin() -> str:
        """Begin your research in this campaign."""
        return f"{texts.instructions(about)}\nBegin with step 1."

    pages = [("contract", contract, "What a method must be, with an example.")]
    pages += [
        (f"notes/{name}", partial(_note, name, about), "A background note.")
        for name in texts.note_names(about)
    ]
    for name, read, what in pages:
        uri, kind = f"aarlab://{name}", "text/markdown"
        server.add_resource(
            FunctionResource(uri=uri, name=name, description=what, mime_type=kind, fn=read)
        )
    server.add_prompt(Prompt.from_function(begin, name="begin"))


def _note(name: str, about: ProblemFacts) -> str:
    return texts.note(name, about).text


class PlatformServer(MCPServer[Any]):
    """MCPServer with schemas that any client can read.

    Tool errors have the form of the API's problems: `code: message`.
    """

    async def list_tools(self) -> list[Tool]:
        return [
            tool.model_copy(
                update={
                    "input_schema": input_schema(tool.input_schema),
                    "output_schema": tool.output_schema and written_out(tool.output_schema),
                }
            )
            for tool in await super().list_tools()
        ]

    async def call_tool(
        self, name: str, arguments: Mapping[str, Any], context: Context[Any, Any] | None = None
    ) -> Any:
        try:
            return await super().call_tool(name, dict(arguments), context)
        except ToolError as error:
            raise ToolError(_tool_message(name, error)[:MAX_MESSAGE]) from None


def _tool_message(name: str, error: ToolError) -> str:
    cause = error.__cause__
    if isinstance(cause, AarlabError):
        return f"{cause.code}: {cause}"
    if isinstance(error, UnexpectedToolError):
        log_crash("MCP", name, cause if isinstance(cause, Exception) else error)
        return "error: the platform failed; the operator's log has the trace"
    if isinstance(cause, ValidationError):
        return f"bad_input: malformed arguments: {faults_text(cause.errors())}"
    return f"not_found: {error}"
