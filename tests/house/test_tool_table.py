"""The tools are declared once: functions, routes, MCP, the own loop and the docs agree with it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from aarlab.agents.language.tools.platform import platform_tools
from aarlab.core.platform_tools import TOOLS, TOOLS_PATH
from aarlab.server.app import ROUTERS
from aarlab.server.service.tools import READS, WRITES

ROOT = Path(__file__).parents[2]
# Tools of the own loop that take files of its workspace, or do more: their words are their own.
OTHER_WORDS = {"submit_method", "put_snapshot", "get_snapshot", "verified_methods"}
OTHER_ARGUMENTS = {*OTHER_WORDS, "submit_predictions", "search_findings", "post_finding"}


def test_the_declarations_are_light() -> None:
    code = "import sys, aarlab.core.platform_tools; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "pydantic" in loaded and not loaded & {"torch", "fastapi", "sqlalchemy", "mcp", "numpy"}
    assert "aarlab.server" not in done.stdout.split()


def test_every_tool_has_its_function() -> None:
    assert list(READS) == [tool.name for tool in TOOLS.values() if tool.method == "GET"]
    assert list(WRITES) == [tool.name for tool in TOOLS.values() if tool.method == "POST"]


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_names_a_route_that_there_is(name: str) -> None:
    tool = TOOLS[name]
    routes = {
        (m, route.path) for router in ROUTERS for route in router.routes for m in route.methods
    }
    route = (tool.method, tool.path) if tool.path else ("POST", f"{TOOLS_PATH}/{{name}}")
    assert route in routes


def test_the_table_in_the_docs_names_every_tool_once() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    table = text.split("| for | tools |")[1].split("\n\n")[0]
    assert sorted(re.findall(r"`([a-z_]{4,})`", table)) == sorted(TOOLS)


def test_the_own_loop_takes_words_and_arguments_from_the_declaration() -> None:
    shared = {tool.name: tool for tool in platform_tools(forum=True) if tool.name in TOOLS}
    assert len(shared) >= 11
    for name, tool in shared.items():
        assert (tool.about == TOOLS[name].about) == (name not in OTHER_WORDS), name
        assert (tool.args is TOOLS[name].input) == (name not in OTHER_ARGUMENTS), name
