"""What a tool is: a name, typed arguments, a function. Errors of its use are answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from inspect_ai.tool import ToolInfo, ToolParams
from inspect_ai.util import JSONSchema
from pydantic import BaseModel, ConfigDict, ValidationError

from aarlab.agents.language.state import LoopState
from aarlab.agents.language.tools.kit import Kit

Change = Callable[[LoopState], LoopState]


class Args(BaseModel):
    """Arguments of a tool; an unknown or missing one is told to the model."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Place(NamedTuple):
    """Where in its life the AAR makes this call. `key` is the same when the call is repeated."""

    key: str
    state: LoopState


class Result(NamedTuple):
    """What the model is told, and what changes in the AAR's own state."""

    text: str
    change: Change | None = None


class WrongCall(Exception):
    """The call itself was malformed; the message says how to make it right."""


@dataclass(frozen=True, slots=True)
class Tool:
    """`repeatable`: a second run after a crash does no harm, so it is run again and not reported
    as interrupted. Platform writes are, by their idempotency key."""

    name: str
    about: str
    args: type[Args]
    run: Callable[[Kit, Any, Place], Result]
    repeatable: bool = False

    def info(self) -> ToolInfo:
        schema = self.args.model_json_schema()
        properties = {
            name: JSONSchema.model_validate(_plain(field))
            for name, field in schema.get("properties", {}).items()
        }
        params = ToolParams(properties=properties, required=schema.get("required", []))
        return ToolInfo(name=self.name, description=self.about, parameters=params)

    def call(self, kit: Kit, arguments: dict[str, Any], place: Place) -> Result:
        """Raises WrongCall for arguments that do not fit, and what the tool raises."""
        try:
            args = self.args.model_validate(arguments)
        except ValidationError as error:
            raise WrongCall(f"{self.name}: {_explained(error)}") from error
        return self.run(kit, args, place)


def find_tool(tools: Sequence[Tool], name: str) -> Tool:
    """Raises WrongCall naming the tools there are."""
    for tool in tools:
        if tool.name == name:
            return tool
    raise WrongCall(f"there is no tool {name!r}; there are {', '.join(t.name for t in tools)}")


def _plain(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _plain(value) for key, value in schema.items() if key != "title"}
    return [_plain(item) for item in schema] if isinstance(schema, list) else schema


def _explained(error: ValidationError) -> str:
    lines = []
    for item in error.errors(include_url=False):
        where = ".".join(map(str, item["loc"])) or "arguments"
        lines.append(f"{where}: {item['msg']}")
    return "; ".join(lines)
