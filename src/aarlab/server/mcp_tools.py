"""The tools of `core.platform_tools` as the MCP endpoint offers them.

They are sufficient for an agent that has nothing else: they give the question and the rules, rows,
weak labels, the contract, a sandbox that tries its method, and the way to a verified method.
"""

from collections.abc import Callable
from inspect import Parameter, Signature
from operator import getitem
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field
from pydantic.fields import FieldInfo

from aarlab.core.platform_tools import PlatformTool
from aarlab.core.wire_base import KEY
from aarlab.server.auth import life_in
from aarlab.server.platform import Platform
from aarlab.server.service import tools
from aarlab.server.service.caller import Caller
from aarlab.store.aars import Access

ACCESS = "aarlab.access"  # where the endpoint leaves what the token opens, in the ASGI scope
Ctx = Context[Any, Any]
Key = Annotated[
    str | None,
    Field(
        pattern=KEY,
        description="a text of yours for this one write: sent again with it, a call counts once",
    ),
]


def mcp_function(platform: Platform, tool: PlatformTool) -> Callable[..., Any]:
    """Return the function of a tool, with the signature from which the SDK makes its schemas.

    Its parameters are the fields of the tool's input. A writing tool also takes `key`, which counts
    once over MCP and HTTP together.
    """

    async def run(ctx: Ctx, **given: Any) -> Any:
        key = given.pop("key", None) if tool.method == "POST" else None
        request: Any = ctx.request_context.request
        aar = _access(request).need("read" if tool.method == "GET" else "write")
        caller = Caller(platform, aar, life=life_in(request))
        return await tools.call(caller, tool, tool.input(**given), key)

    parameters = [Parameter("ctx", Parameter.KEYWORD_ONLY, annotation=Ctx)]
    parameters += [_parameter(name, field) for name, field in tool.input.model_fields.items()]
    if tool.method == "POST":
        parameters.append(Parameter("key", Parameter.KEYWORD_ONLY, default=None, annotation=Key))
    signature = Signature(parameters, return_annotation=tool.output)
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _parameter(name: str, field: FieldInfo) -> Parameter:
    default = (
        Parameter.empty if field.is_required() else field.get_default(call_default_factory=True)
    )
    described = (field.annotation, *field.metadata, Field(description=field.description))
    kind = getitem(Annotated, described)
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _access(request: Any) -> Access:
    access = None if request is None else request.scope.get(ACCESS)
    if not isinstance(access, Access):
        raise RuntimeError("a tool was called past the endpoint, which checks the token")
    return access
