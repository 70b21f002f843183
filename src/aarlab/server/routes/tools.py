"""The tools of `core.platform_tools` over HTTP: those of packages have no other route."""

from typing import Any

from fastapi import APIRouter
from pydantic import ValidationError

from aarlab.core.errors import BadInput
from aarlab.core.platform_tools import ToolFacts
from aarlab.server.auth import CallerDep
from aarlab.server.middleware import StrictRoute
from aarlab.server.problems import faults_text
from aarlab.server.service import tools
from aarlab.server.writes import KeyDep

router = APIRouter(prefix="/v1/tools", route_class=StrictRoute)


@router.get("")
async def list_tools(caller: CallerDep) -> list[ToolFacts]:
    """List the tools, with the schema of their input.

    A `path` that is not here is another route.
    """
    return tools.facts(caller.platform)


@router.post("/{name}", responses={402: {}, 424: {}})
async def call_tool(
    name: str, given: dict[str, Any], caller: CallerDep, key: KeyDep
) -> dict[str, Any]:
    """Call a tool with its input as the body; a list comes back as `result`."""
    tool = tools.find(caller.platform, name)
    try:
        wanted = tool.input.model_validate(given)
    except ValidationError as error:
        raise BadInput(f"malformed request: {faults_text(error.errors())}") from None
    made = await tools.call(caller, tool, wanted, key)
    if isinstance(made, list):
        return {"result": [one.model_dump(mode="json") for one in made]}
    whole: dict[str, Any] = made.model_dump(mode="json")
    return whole
