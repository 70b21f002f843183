"""`aarlab aar connect`: an MCP client that knows nothing but what it prints plays a whole round."""

import json
import os
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing

import httpx2
import pytest
from http_kit import snapshot_of
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from platform_kit import Running, platform, write_task

from aarlab.core.layout import RunDir

COMMAND = [sys.executable, "-m", "aarlab.cli", "aar", "connect"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("connect")
    with platform(write_task(home / "data"), RunDir(home / "run")) as made:
        token = made.token("ada", submissions=2, methods=1)
        (made.run.tokens / "ada").write_text(token + "\n")
        yield made


def told(running: Running, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, str(running.run.path), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def call(client: Client, tool: str, **arguments: object):
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


async def test_a_round_with_nothing_but_the_printed_settings(running: Running) -> None:
    port = str(free_port())
    shown = told(running, "ada", "--client", "claude-code", "--port", port).stdout
    server = json.loads(shown)["mcpServers"]["aarlab"]
    export = told(running, "ada", "--port", port).stdout.splitlines()[1]
    token = subprocess.check_output(["sh", "-c", f'{export}; echo "$AARLAB_TOKEN"'], text=True)
    headers = {k: v.replace("${AARLAB_TOKEN}", token.strip()) for k, v in server["headers"].items()}
    forwarder = subprocess.Popen(
        [*COMMAND, str(running.run.path), "ada", "--port", port, "--forward"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert b"leads to the campaign" in forwarder.stderr.readline()
        async with (
            httpx2.AsyncClient(headers=headers, trust_env=False) as inner,
            Client(streamable_http_client(server["url"], http_client=inner)) as client,
        ):
            assert (await call(client, "search_findings"))["findings"] == []
            code = snapshot_of({"method.py": "x = 1"}).model_dump(mode="json")
            snapshot = await call(client, "put_snapshot", snapshot=code)
            predictions = running.submission(0.7).model_dump(mode="json")
            score = await call(client, "submit_predictions", submission=predictions)
            asked = await call(client, "submit_method", method={"snapshot": snapshot["id"]})
            post = {"kind": "result", "title": "t", "text": "x", "submission": score["submission"]}
            posted = await call(client, "post_finding", post=post)
            budget = await call(client, "my_budget")
    finally:
        forwarder.send_signal(signal.SIGINT)
        forwarder.wait(20)
        forwarder.stderr.close()
    assert asked["state"] == "queued" and posted["score"] == score
    assert (budget["name"], budget["submissions_left"], budget["methods_left"]) == ("ada", 1, 0)
    assert forwarder.returncode == 130


def test_every_client_is_told_where_the_token_is_and_none_the_token(running: Running) -> None:
    done = told(running, "ada", "--url", "https://lab.example/")
    token = (running.run.tokens / "ada").read_text().strip()
    assert done.returncode == 0 and token not in done.stdout
    assert str(running.run.tokens / "ada") in done.stdout
    assert "https://lab.example/mcp" in done.stdout and "lab.example//" not in done.stdout
    codex = told(running, "ada", "--client", "codex", "--url", "https://lab.example").stdout
    assert tomllib.loads(codex)["mcp_servers"]["aarlab"] == {
        "url": "https://lab.example/mcp",
        "bearer_token_env_var": "AARLAB_TOKEN",
    }


def test_the_curl_line_works(running: Running) -> None:
    port = free_port()
    line = told(running, "ada", "--client", "curl", "--port", str(port)).stdout
    forward = [sys.executable, "-m", "aarlab.agents.proxy.forward", f"{port}={running.run.socket}"]
    token = (running.run.tokens / "ada").read_text().strip()
    done = subprocess.run(
        [*forward, "--", "sh", "-c", line],
        env={**os.environ, "AARLAB_TOKEN": token, "NO_PROXY": "*"},
        capture_output=True,
        check=False,
    )
    assert json.loads(done.stdout)["result"]["structuredContent"]["name"] == "ada", done.stderr


@pytest.mark.parametrize("name", ["operator", "signing", "bob", "../tokens/operator", "."])
def test_only_tokens_of_aars_are_named(running: Running, name: str) -> None:
    done = told(running, name)
    assert done.returncode == 2 and "has no token of an AAR" in " ".join(done.stderr.split())


def test_a_port_in_use_and_an_unknown_client(running: Running) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = told(running, "ada", "--port", port, "--forward")
    assert done.returncode == 2 and "--port" in done.stderr
    assert told(running, "ada", "--client", "emacs").returncode == 2
