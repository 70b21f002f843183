"""A tool of an installed package, the example: over HTTP, over MCP, and from the own loop."""

import json
import os
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import language_kit as kit
import pytest
from extension_kit import EXAMPLES, distribution, distribution_of
from http_kit import http, problem_of
from mcp_clients import call, session
from platform_kit import Running

from aarlab.agents.specs import LanguageSpec
from aarlab.core.errors import BadInput, Conflict, Damaged
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.platform_tools import EXTRA_TOOLS, ExtraTool, Input, PlatformTool, ToolContext
from aarlab.core.wire_service import NewToken
from aarlab.server.service.extras import installed_tools

EXAMPLE = EXAMPLES / "tools"
NAME = "teacher_agreement"
CRASHING = """
from aarlab.core.platform_tools import ExtraTool, Input, PlatformTool
def crash(context, asked):
    raise RuntimeError("a secret value")
def look(context, asked):
    return context.read("submit_predictions", submission={})
def lie(context, asked):
    return "no model"
CRASH, LOOK, LIE = (
    ExtraTool(PlatformTool(run.__name__, "Crash.", Input, Input), run) for run in (crash, look, lie)
)
"""
CRASHES = {name: f"crashing:{name.upper()}" for name in ("crash", "look", "lie")}


def install(folder: Path, name: str, points: dict[str, str]) -> None:
    distribution(folder, name, {EXTRA_TOOLS: points}, "0.1.0")


@pytest.fixture(scope="module")
def desk(toy_root: DataRoot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[kit.Bench]:
    """A server with the example and a package of tools that crash, on a task with weak labels."""
    packages = tmp_path_factory.mktemp("packages")
    distribution_of(packages, EXAMPLE)
    install(packages, "crashing", CRASHES)
    (packages / "crashing.py").write_text(CRASHING)
    before = os.environ.get("PYTHONPATH", "")
    with pytest.MonkeyPatch.context() as patch:
        places = [str(packages), str(EXAMPLE), *filter(None, [before])]
        patch.setenv("PYTHONPATH", os.pathsep.join(places))
        with kit.bench(toy_root, RunDir(tmp_path_factory.mktemp("run")), "--task", "gauss") as made:
            yield made


@pytest.fixture
def teachers(desk: kit.Bench) -> dict[str, object]:
    """The input of the example's tool: two public teachers of the task."""
    with desk.running.aar("teachers") as aar:
        (task,) = aar.tasks()
    first, second, *_ = task.teacher_seeds
    return {"task": "gauss", "first": first, "second": second}


def post(running: Running, token: str, tool: str, given: object, key: str = "k"):
    with http(running, token) as client:
        return client.post(f"/v1/tools/{tool}", json=given, headers={"Idempotency-Key": key})


def test_the_example_is_small() -> None:
    texts = [path.read_text() for path in EXAMPLE.iterdir() if path.is_file()]
    assert 0 < sum(len(text.split("\n")) for text in texts) < 80


def test_it_is_listed_and_called_over_http(desk: kit.Bench, teachers) -> None:
    running, token = desk.running, desk.running.token("over-http")
    with running.with_token(token) as client:
        (listed,) = [one for one in client.tools() if one.name == NAME]
        assert listed.path == f"/v1/tools/{NAME}"
        assert set(listed.input_schema["required"]) == {"task", "first", "second"}
        made = client.call_tool(NAME, teachers, key="first")
        assert client.call_tool(NAME, teachers, key="first") == made
    assert made["rows"] > 0 and 0.5 < made["share"] <= 1
    same = {**teachers, "second": teachers["first"]}
    assert problem_of(post(running, token, NAME, same)).message == "give two different teachers"
    wrong = problem_of(post(running, token, NAME, {**teachers, "first": -1, "label": 1}))
    assert wrong.code == "bad_input" and "first" in wrong.message and "label" in wrong.message
    assert problem_of(post(running, token, "no_tool", {})).code == "not_found"
    turned = {**teachers, "first": teachers["second"], "second": teachers["first"]}
    assert problem_of(post(running, token, NAME, turned, key="first")).code == "conflict"
    with http(running, token) as client:
        assert client.post(f"/v1/tools/{NAME}", json=teachers).status_code == 422, "no key"
    with running.operator() as operator:
        calls = [
            r.body for r in operator.log() if r.kind == "tool" and r.body["aar"] == "over-http"
        ]
    assert [(c["tool"], c["package"]) for c in calls] == [(NAME, "aarlab-teacher-agreement 0.1.0")]


async def test_it_is_called_over_mcp_and_a_key_counts_once_over_both(
    desk: kit.Bench, teachers
) -> None:
    token = desk.running.token("over-mcp")
    async with session(desk.running, token) as client:
        (tool,) = [one for one in (await client.list_tools()).tools if one.name == NAME]
        assert tool.description and set(tool.input_schema["properties"]) >= {"task", "key"}
        assert all(p.get("description") for p in tool.input_schema["properties"].values())
        made = await call(client, NAME, **teachers, key="both")
    assert post(desk.running, token, NAME, teachers, key="both").json() == made
    with desk.running.operator() as operator:
        mine = [r for r in operator.log() if r.kind == "tool" and r.body["aar"] == "over-mcp"]
    assert len(mine) == 1


def test_the_own_loop_calls_it(desk: kit.Bench, teachers) -> None:
    config = desk.config(LanguageSpec(model="mockllm/model"), "in-the-loop")
    moves = kit.script(kit.calls((NAME, teachers), (NAME, {**teachers, "task": "none"})))
    kit.live(config, kit.mock_spec(moves))
    made, refused = kit.results(config)[:2]
    assert json.loads(made)["rows"] > 0
    assert refused.startswith("error: ") and "no task 'none'" in refused


@pytest.mark.parametrize("name", ["crash", "lie"])
async def test_what_it_raises_is_not_sent(desk: kit.Bench, name: str) -> None:
    token = desk.running.token("crashed")
    answer = problem_of(post(desk.running, token, name, {}, key=name))
    assert answer.code == "tool_failed" and "crashing 0.1.0" in answer.message
    assert "secret" not in answer.message
    async with session(desk.running, token) as client:
        assert (await call(client, name)).startswith("tool_failed: ")
    assert "secret" not in desk.running.log_text() and f"tool {name}: " in desk.running.log_text()


def test_its_context_reads_and_does_not_write(desk: kit.Bench) -> None:
    answer = problem_of(post(desk.running, desk.running.token("looker"), "look", {}))
    assert answer.message.startswith("no reading tool 'submit_predictions'")
    assert set(ToolContext.__slots__) == {"aar", "team", "direction", "tasks", "read"}


def test_other_tokens_do_not_open_it(desk: kit.Bench, teachers) -> None:
    running = desk.running
    running.token("reader")
    with running.operator() as operator:
        reading = operator.make_token("reader", NewToken(scopes=["read"])).token
    for token, status in ((reading, 403), (running.operator_token, 403), ("aar_x", 401)):
        assert post(running, token, NAME, teachers).status_code == status


class Empty(Input):
    pass


def plain(name: str = "mine", **more) -> ExtraTool:
    return ExtraTool(PlatformTool(name, "A tool.", Empty, Empty, **more), lambda c, g: Empty())


REFUSED = {
    "not a tool": (object(), "must be a ExtraTool, and is a object"),
    "a name that is not the entry's": (plain("vote"), "needs the entry's name"),
    "a path of the platform": (plain(path="/v1/me"), "without a `path`"),
    "one that is not logged": (plain(method="GET"), "without a `path`"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_package_that_does_not_fit_is_named(tmp_path: Path, monkeypatch, case: str) -> None:
    given, message = REFUSED[case]
    install(tmp_path, "odd-package", {"mine": f"{__name__}:given"})
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(globals(), "given", given)
    assert [point.name for point in entry_points(group=EXTRA_TOOLS)] == ["mine"]
    where = r"odd-package 0.1.0, \[aarlab.tools\] mine = "
    with pytest.raises((BadInput, Damaged), match=where) as refused:
        installed_tools()
    assert message in str(refused.value)


def test_the_name_of_a_tool_of_the_platform_is_taken(tmp_path: Path, monkeypatch) -> None:
    install(tmp_path, "odd-package", {"vote": f"{__name__}:plain"})
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Conflict, match="there is a built-in tool 'vote'"):
        installed_tools()
