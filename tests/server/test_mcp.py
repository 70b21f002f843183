"""The MCP endpoint with the SDK's own client, over TCP and the unix socket."""

import json
import socket
import subprocess
import sys
from contextlib import closing

import pytest
from http_kit import http, snapshot_of
from mcp_clients import call, session
from platform_kit import Running, TinyTask, platform, stop, wait_for

from aarlab.client.transport import Address, health
from aarlab.core.wire_service import NewToken

POST = {"kind": "insight", "title": "over mcp", "text": "t"}


def predictions(running: Running, accuracy: float, seed: int = 0) -> dict:
    return running.submission(accuracy, seed).model_dump(mode="json")


async def test_a_life_over_the_unix_socket(running: Running) -> None:
    token = running.token("mcp-life", methods=1, submissions=2)
    async with session(running, token) as client:
        listed = (await client.list_tools()).tools
        assert all(tool.description and tool.output_schema for tool in listed)
        code = snapshot_of({"method.py": "mcp = 1"}).model_dump(mode="json")
        snapshot = await call(client, "put_snapshot", snapshot=code)
        score = await call(
            client, "submit_predictions", submission=predictions(running, 0.7), key="first"
        )
        assert score["submissions_left"] == 1 and score["isolation"] == "bubblewrap"
        again = await call(
            client, "submit_predictions", submission=predictions(running, 0.7), key="first"
        )
        assert again == score, "the same key counts once"
        asked = await call(client, "submit_method", method={"snapshot": snapshot["id"]})
        assert asked["state"] == "queued"
        cited = {"submission": score["submission"], "snapshot": snapshot["id"]}
        posted = await call(client, "post_finding", post={**POST, **cited})
        assert posted["score"] == score
        found = await call(client, "search_findings", query={"q": "mcp", "author": "mcp-life"})
        assert found["findings"] == [posted]
        assert (await call(client, "read_finding", finding=posted["id"])) == posted
        assert (await call(client, "search_findings"))["findings"]
        files = await call(client, "get_snapshot", snapshot=snapshot["id"])
        assert files["snapshot"] == snapshot and files["files"] == code["files"]
        assert isinstance((await call(client, "verified_methods"))["result"], list)
        budget = await call(client, "my_budget")
        assert (budget["submissions_left"], budget["methods_left"]) == (1, 0)
    async with session(running, running.token("mcp-voter")) as other:
        voted = await call(other, "vote", finding=posted["id"], value="up")
        assert voted["votes"] == {"up": 1, "down": 0}
    with running.operator() as operator:
        mine = [r.kind for r in operator.log() if "mcp-life" in str(r.body)]
    assert mine == ["aar", "snapshot", "submission", "method", "finding"]


async def test_one_key_is_one_write_over_both_doors(running: Running) -> None:
    token = running.token("both-doors")
    async with session(running, token) as client:
        made = await call(client, "post_finding", post=POST, key="k")
    with http(running, token) as plain:
        headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
        body = json.dumps({**POST, "submission": None, "snapshot": None})
        assert plain.post("/v1/findings", content=body, headers=headers).json() == made


async def test_errors_are_told_and_cost_and_write_nothing(running: Running) -> None:
    token = running.token("mcp-errors", submissions=1, methods=0)
    async with session(running, token) as client:
        bad = {**predictions(running, 0.6), "split": "certify"}
        code = snapshot_of({"method.py": "e = 1"}).model_dump(mode="json")
        snapshot = (await call(client, "put_snapshot", snapshot=code))["id"]
        wrong = [
            ("submit_predictions", {"submission": bad}, "bad_input"),
            ("submit_predictions", {"submission": {**bad, "split": "search", "ids": ["a"]}}, "bad"),
            ("submit_predictions", {}, "bad_input"),
            ("submit_predictions", {"submission": predictions(running, 0.6), "key": "a b"}, "bad"),
            ("submit_method", {"method": {"snapshot": snapshot}}, "budget_exhausted"),
            ("submit_method", {"method": {"snapshot": snapshot, "task": "held"}}, "not_found"),
            ("post_finding", {"post": {**POST, "pgr": 0.9}}, "bad_input"),
            ("post_finding", {"post": {**POST, "submission": "sub_x"}}, "not_found"),
            ("search_findings", {"query": {"q": "%"}}, "bad_input"),
            ("search_findings", {"query": {"sort": "worst"}}, "bad_input"),
            ("read_finding", {"finding": "../operator/export"}, "not_found"),
            ("vote", {"finding": "fnd_none", "value": "up"}, "not_found"),
            ("vote", {"finding": "fnd_none", "value": "sideways"}, "bad_input"),
            ("get_snapshot", {"snapshot": "HEAD"}, "not_found"),
            ("put_snapshot", {"snapshot": {**code, "files": []}}, "bad_input"),
            ("operator_export", {}, "not_found"),
        ]
        for tool, arguments, code_of in wrong:
            told = await call(client, tool, **arguments)
            assert isinstance(told, str) and told.startswith(code_of), (tool, told)
            assert len(told) <= 1000
        assert (await call(client, "my_budget"))["submissions_made"] == 0
        good = predictions(running, 0.6)
        assert (await call(client, "submit_predictions", submission=good))["submissions_left"] == 0
        told = await call(client, "submit_predictions", submission=predictions(running, 0.7, 2))
        assert told.startswith("budget_exhausted: mcp-errors has used 1 of 1 submissions")
    with running.operator() as operator:
        refusals = [
            (r.body["route"], r.body["code"])
            for r in operator.log()
            if r.kind == "refusal" and r.body["actor"] == "mcp-errors"
        ]
    assert ("POST /v1/submissions", "budget_exhausted") in refusals
    assert ("POST /v1/methods", "budget_exhausted") in refusals


async def test_scopes_and_revocation_hold_for_tools(running: Running) -> None:
    running.token("mcp-scoped")
    with running.operator() as operator:
        issued = operator.make_token("mcp-scoped", NewToken(scopes=["read"]))
        async with session(running, issued.token) as client:
            assert (await call(client, "my_budget"))["name"] == "mcp-scoped"
            for tool, arguments in (
                ("post_finding", {"post": POST}),
                ("vote", {"finding": "x", "value": "up"}),
                ("submit_predictions", {"submission": predictions(running, 0.6)}),
            ):
                assert (await call(client, tool, **arguments)).startswith("forbidden: ")
            operator.revoke_token(issued.record.id)
            with pytest.raises(Exception):  # noqa: B017 - the SDK has no type of its own for it
                await call(client, "my_budget")


RPC = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


@pytest.mark.parametrize("token", ["", "aar_nonsense", "operator"])
def test_other_tokens_are_refused_before_the_protocol(running: Running, token: str) -> None:
    given = running.operator_token if token == "operator" else token
    with http(running, given) as client:
        answer = client.post("/mcp", json=RPC, headers=ACCEPT)
    assert answer.status_code == (403 if token == "operator" else 401)
    assert answer.json()["code"] == "forbidden"


BODIES = {
    "empty": b"",
    "no json": b"{",
    "list": b"[]",
    "no unicode": b"\xff\xfe",
    "surrogate": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_finding",'
    b'"arguments":{"finding":"\\ud800"}}}',
    "surrogate in a post": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":'
    b'"post_finding","arguments":{"post":{"kind":"insight","title":"\\ud800","text":""}}}}',
    "nul": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read_finding",'
    b'"arguments":{"finding":"\\u0000"}}}',
    "nan": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"my_budget",'
    b'"arguments":{"x":NaN}}}',
    "deep": b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":' + b"[" * 50_000,
    "unknown method": b'{"jsonrpc":"2.0","id":1,"method":"operator/export"}',
}


@pytest.mark.parametrize("name", BODIES)
def test_malformed_messages(running: Running, name: str) -> None:
    with http(running, running.token("mcp-malformed")) as client:
        answer = client.post("/mcp", content=BODIES[name], headers=ACCEPT)
        assert answer.status_code < 500, answer.text
        assert "error" in answer.text.lower() and "Traceback" not in answer.text
        assert len(answer.content) < 2000
        assert client.get("/v1/findings?author=mcp-malformed").json()["findings"] == []


def test_only_posts_are_taken(running: Running) -> None:
    with http(running, running.token("mcp-getter")) as client:
        for method in ("GET", "DELETE", "PUT"):
            assert client.request(method, "/mcp", headers=ACCEPT).status_code == 405


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_it_works_over_tcp_and_its_rate_is_the_apis(tiny: TinyTask, run_dir, monkeypatch):
    monkeypatch.setenv("AARLAB_SERVER_REQUESTS_PER_S", "0.01")
    monkeypatch.setenv("AARLAB_SERVER_REQUEST_BURST", "12")
    port = _free_port()
    with platform(tiny, run_dir, "--port", str(port)) as running:
        url = f"http://127.0.0.1:{port}/mcp"
        async with session(running, running.token("tcp"), url) as client:
            assert (await call(client, "my_budget"))["name"] == "tcp"
        with http(running, running.token("tcp")) as plain:
            codes = [plain.post("/mcp", json=RPC, headers=ACCEPT).status_code for _ in range(12)]
            assert 200 in codes and codes[-1] == 429
            assert plain.get("/v1/me").status_code == 429
            assert int(plain.get("/v1/me").headers["Retry-After"]) > 1
    assert running.process.returncode == 0 and running.log_text() == ""


def test_without_the_package_the_server_starts_without_the_endpoint(tiny, run_dir) -> None:
    code = (
        "import sys; sys.modules['mcp'] = None; from aarlab.server.__main__ import main; "
        "sys.exit(main(sys.argv[1:]))"
    )
    run_dir.path.mkdir(parents=True)
    arguments = ["--run", str(run_dir.path), "--root", str(tiny.data.path)]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments])
    try:
        wait_for(run_dir.socket.exists)
        health(Address(run_dir.socket), deadline_s=20)
        running = Running(tiny, run_dir, process)
        with http(running, running.token("plain")) as client:
            assert client.post("/mcp", json=RPC, headers=ACCEPT).status_code == 404
            assert client.get("/v1/me").status_code == 200
    finally:
        assert stop(process) == 0
