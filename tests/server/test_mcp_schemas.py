"""What the tools of the MCP endpoint say of themselves, held against what clients accept."""

import json
import re

import pytest
from mcp import Client
from mcp_clients import session
from platform_kit import Running

from aarlab.server.mcp_schemas import input_schema, written_out

CHOICES = ("anyOf", "oneOf", "allOf")
KEPT = {  # names that clients of earlier versions call
    "submit_predictions",
    "submit_method",
    "post_finding",
    "search_findings",
    "read_finding",
    "vote",
    "get_snapshot",
    "put_snapshot",
    "my_budget",
}


def every(value: object, path: str = ""):
    """All dicts below, with where they are."""
    if isinstance(value, dict):
        yield path, value
        for name, inner in value.items():
            yield from every(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from every(inner, f"{path}[{number}]")


def arguments(schema: dict, path: str = ""):
    """Every argument, also those inside of objects and lists, with its schema."""
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}.{name}", inner
        yield from arguments(inner, f"{path}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from arguments(schema["items"], f"{path}[]")


async def test_no_tool_needs_more_of_a_client_than_plain_json_schema(running: Running) -> None:
    async with session(running, running.token("schemas")) as client:
        tools = (await client.list_tools()).tools
    assert {tool.name for tool in tools} >= KEPT
    for tool in tools:
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", tool.name)
        assert tool.description and len(tool.description) <= 1024
        assert tool.annotations is not None
        for schema in (tool.input_schema, tool.output_schema):
            assert schema is not None and schema["type"] == "object"
            assert not set(schema) & {*CHOICES, "enum", "not"}, "a choice at the top"
            for path, part in every(schema):
                assert not {"$ref", "$defs", "definitions"} & set(part), (tool.name, path)
        for path, part in every(tool.input_schema):
            assert part != {"type": "null"} and part.get("default", 0) is not None, (
                tool.name,
                path,
            )
            assert not any(choice in part for choice in CHOICES), (tool.name, path)
        for path, argument in arguments(tool.input_schema, tool.name):
            assert argument.get("description"), f"{path} has no description"
            assert "type" in argument or "enum" in argument, path
        assert len(json.dumps(tool.input_schema)) < 10_000


async def test_what_is_left_out_may_also_be_null(running: Running) -> None:
    """Clients that fill in null for what they leave out are understood."""
    async with session(running, running.token("nulls")) as client:
        told = await client.call_tool("search_findings", {"query": None})
        assert not told.is_error
        told = await client.call_tool("verification_status", {"request": None})
        assert told.structured_content == {"result": []}


async def test_instructions_are_short_and_name_tools_that_there_are(running: Running) -> None:
    async with session(running, running.token("told")) as client:
        await said_names_tools(client)


async def said_names_tools(client: Client) -> None:
    said = client.instructions or ""
    assert len(said.encode()) <= 2048, "some clients cut instructions there"
    known = {tool.name for tool in (await client.list_tools()).tools}
    named = set(re.findall(r"`([a-z_]+)`", said)) - {"key"}
    assert {"rules", "read_rows", "weak_labels", "request_verification"} <= named <= known
    for word in ("PGR", "verified", "hidden labels", "seeds"):
        assert word in said


@pytest.mark.parametrize("name", ["aarlab://contract", "aarlab://notes/methods.md"])
async def test_texts_are_resources_too(running: Running, name: str) -> None:
    async with session(running, running.token("resources")) as client:
        assert name in {str(one.uri) for one in (await client.list_resources()).resources}
        assert len((await client.read_resource(name)).contents[0].text) > 500
        prompt = await client.get_prompt("begin")
        assert "Begin" in prompt.messages[0].content.text


def test_references_are_written_out_wherever_they_are() -> None:
    inner = {"type": "object", "properties": {"deep": {"$ref": "#/$defs/Deep"}}}
    schema = {
        "type": "object",
        "properties": {
            "a": {"$ref": "#/$defs/In", "description": "mine"},
            "b": {"anyOf": [{"$ref": "#/$defs/In"}, {"type": "null"}], "default": None},
            "c": {"type": "array", "items": {"$ref": "#/$defs/Deep"}},
        },
        "$defs": {"In": inner, "Deep": {"type": "string", "description": "its own"}},
    }
    deep = {"type": "string", "description": "its own"}
    plain = {"type": "object", "properties": {"deep": deep}}
    assert written_out(schema)["properties"]["a"] == {**plain, "description": "mine"}
    assert input_schema(schema)["properties"] == {
        "a": {**plain, "description": "mine"},
        "b": plain,
        "c": {"type": "array", "items": deep},
    }


def test_a_type_in_itself_is_refused_at_the_start_and_not_by_a_client() -> None:
    schema = {"$ref": "#/$defs/A", "$defs": {"A": {"properties": {"a": {"$ref": "#/$defs/A"}}}}}
    with pytest.raises(RecursionError):
        written_out(schema)
