"""`aarlab aar connect`: what it prints works as it is pasted, with the SDK's own client."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest
from http_kit import snapshot_of
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp_clients import call, connected
from platform_kit import Running, platform, write_task

from aarlab.campaign.certificates import certificates
from aarlab.cli.main import cli, run_safely
from aarlab.core.layout import RunDir

COMMAND = [sys.executable, "-m", "aarlab.cli", "aar"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("connect")
    with platform(write_task(home / "data"), RunDir(home / "a run")) as made:
        token = made.token("ada", submissions=2, methods=1)
        (made.run.tokens / "ada").write_text(token + "\n")
        made.run.spec.write_text("{}", encoding="utf-8")
        yield made


class Said(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def said(*words: str) -> Said:
    """The command without a process of its own."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run_safely(lambda: cli(["aar", *words], standalone_mode=False))
    return Said(code, out.getvalue(), err.getvalue())


def told(running: Running, *words: str) -> Said:
    return said("connect", str(running.run.path), *words)


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def forwarded(running: Running, *words: str) -> Iterator[str]:
    """What it printed, while the port leads to the campaign."""
    process = subprocess.Popen(
        [*COMMAND, "connect", str(running.run.path), "ada", "--forward", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert b"is forwarded to the campaign" in process.stderr.readline()
        yield os.read(process.stdout.fileno(), 1 << 16).decode()
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        process.stdout.close()
        process.stderr.close()


def exported(running: Running) -> str:
    """The variable's value after the line that is printed for a shell."""
    line = next(
        line for line in told(running, "ada").stdout.splitlines() if line.startswith("export ")
    )
    return subprocess.check_output(["sh", "-c", f'{line}; echo "$AARLAB_TOKEN"'], text=True).strip()


async def works(client: Client) -> None:
    tools = {tool.name for tool in (await client.list_tools()).tools}
    assert {"rules", "read_rows", "request_verification"} <= tools
    assert "verified" in (client.instructions or "")
    assert (await call(client, "my_budget"))["name"] == "ada"


async def test_settings_that_start_a_program_work_as_they_are_pasted(running: Running) -> None:
    """No port, no variable, no token; the campaign's folder has a space in its name."""
    done = told(running, "ada", "--client", "generic")
    assert f"listening: {running.run.socket}" in done.stderr
    assert told(running, "ada", "--client", "claude-code").stdout == done.stdout
    codex = told(running, "ada", "--client", "codex").stdout
    entry = json.loads(done.stdout)["mcpServers"]["aarlab"]
    assert tomllib.loads(codex)["mcp_servers"]["aarlab"] == entry
    async with Client(stdio_client(StdioServerParameters(**entry))) as client:
        await works(client)
        told_off = await call(client, "read_finding", finding="fnd_none")
        assert told_off.startswith("not_found: ")
        assert (await client.get_prompt("begin")).messages
        assert (await client.read_resource("aarlab://contract")).contents[0].text


async def test_settings_over_http_work_with_the_variable_they_name(running: Running) -> None:
    token = exported(running)
    with forwarded(running, "--client", "claude-code") as shown:
        entry = json.loads(shown)["mcpServers"]["aarlab"]
        # Claude Code puts variables in where a setting names them.
        headers = {k: v.replace("${AARLAB_TOKEN}", token) for k, v in entry["headers"].items()}
        async with connected(entry["url"], headers) as client:
            await works(client)
            code = snapshot_of({"method.py": "x = 1"}).model_dump(mode="json")
            snapshot = await call(client, "put_snapshot", snapshot=code)
            predictions = running.submission(0.7).model_dump(mode="json")
            score = await call(client, "submit_predictions", submission=predictions)
            asked = await call(client, "submit_method", method={"snapshot": snapshot["id"]})
            post = {"kind": "result", "title": "t", "text": "x", "submission": score["submission"]}
            posted = await call(client, "post_finding", post=post)
            budget = await call(client, "my_budget")
    assert asked["state"] == "queued" and posted["score"] == score
    assert (budget["name"], budget["submissions_left"], budget["methods_left"]) == ("ada", 1, 0)


async def test_codex_and_generic_settings_over_http_work(running: Running) -> None:
    token = exported(running)
    with forwarded(running, "--client", "codex") as shown:
        entry = tomllib.loads(shown)["mcp_servers"]["aarlab"]
        assert entry["bearer_token_env_var"] == "AARLAB_TOKEN"
        async with connected(entry["url"], {"Authorization": f"Bearer {token}"}) as client:
            await works(client)
    with forwarded(running, "--client", "generic", "--show-token") as shown:
        entry = json.loads(shown)["mcpServers"]["aarlab"]
        async with connected(entry["url"], entry["headers"]) as client:
            await works(client)


def test_two_forwarders_and_a_dashboard_do_not_meet(running: Running) -> None:
    """The default port is not that of `aarlab serve`; where it is taken, a free one is."""
    ports = set()
    with (
        forwarded(running, "--client", "codex") as one,
        forwarded(running, "--client", "codex") as two,
    ):
        for shown in (one, two):
            url = tomllib.loads(shown)["mcp_servers"]["aarlab"]["url"]
            ports.add(int(url.split(":")[2].split("/")[0]))
    assert len(ports) == 2 and 8321 not in ports


def test_the_token_is_shown_where_that_is_asked_for_and_nowhere_else(running: Running) -> None:
    done = told(running, "ada", "--url", "https://lab.example/")
    token = (running.run.tokens / "ada").read_text().strip()
    assert done.returncode == 0 and token not in done.stdout + done.stderr
    assert str(running.run.tokens / "ada") in done.stdout
    assert "https://lab.example/mcp" in done.stdout and "lab.example//" not in done.stdout
    codex = told(running, "ada", "--client", "codex", "--url", "https://lab.example").stdout
    assert tomllib.loads(codex)["mcp_servers"]["aarlab"] == {
        "url": "https://lab.example/mcp",
        "bearer_token_env_var": "AARLAB_TOKEN",
    }
    shown = told(running, "ada", "--client", "codex", "--url", "https://l.example", "--show-token")
    headers = tomllib.loads(shown.stdout)["mcp_servers"]["aarlab"]["http_headers"]
    assert headers == {"Authorization": f"Bearer {token}"}


def test_the_curl_line_works_with_no_port_and_over_one(running: Running) -> None:
    token = (running.run.tokens / "ada").read_text().strip()
    variables = {**os.environ, "AARLAB_TOKEN": token, "NO_PROXY": "*"}
    line = told(running, "ada", "--client", "curl").stdout
    with forwarded(running, "--client", "curl") as over_tcp:
        for text in (line, over_tcp):
            done = subprocess.run(
                ["sh", "-c", text], env=variables, capture_output=True, check=False
            )
            answer = json.loads(done.stdout)
            assert answer["result"]["structuredContent"]["name"] == "ada", done.stderr


@pytest.mark.parametrize("name", ["operator", "signing", "bob", "../tokens/operator", "."])
@pytest.mark.parametrize("command", ["connect", "bridge"])
def test_only_tokens_of_aars_are_named(running: Running, name: str, command: str) -> None:
    done = said(command, str(running.run.path), name)
    assert done.returncode == 2 and "has no token of an AAR" in " ".join(done.stderr.split())


def test_wrong_options_say_what_to_do(running: Running) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = told(running, "ada", "--port", port, "--forward")
    assert done.returncode == 2 and "--port" in done.stderr
    assert told(running, "ada", "--client", "emacs").returncode == 2
    both = told(running, "ada", "--url", "http://x", "--port", "1")
    assert both.returncode == 2 and "either --url" in both.stderr
    quiet = told(running, "ada", "--port", str(free_port()))
    assert quiet.returncode == 0 and "nothing listens on" in quiet.stderr


def test_an_aar_that_has_a_researcher_is_named_before_another_agent_acts_as_it(tmp_path) -> None:
    run = RunDir(tmp_path / "run")
    run.tokens.mkdir(parents=True)
    (run.tokens / "ada").write_text("aar_nothing\n")
    for aar, has_one in (
        ({"researcher": "language"}, True),
        ({"researcher": "external", "external": {"agent": "claude-code"}}, True),
        ({"researcher": "external", "external": None}, False),
        ({"researcher": "external", "external": {"agent": "mcp"}}, False),
    ):
        run.spec.write_text(json.dumps({"campaign": {"aars": [{"name": "ada", **aar}]}}))
        done = said("connect", str(run.path), "ada", "--client", "generic")
        assert ("ada works by itself" in done.stderr) is has_one and "mcpServers" in done.stdout


def test_a_bridge_without_a_campaign_or_with_a_dead_token_says_so(
    running: Running, tmp_path
) -> None:
    run = RunDir(tmp_path / "gone")
    run.tokens.mkdir(parents=True)
    (run.tokens / "ada").write_text("aar_nothing\n")
    for command in ("connect", "bridge"):
        done = said(command, str(run.path), "ada")
        assert (done.returncode, done.stdout) == (2, "") and "no spec.json" in done.stderr
    run.spec.write_text("{}", encoding="utf-8")
    done = said("bridge", str(run.path), "ada")
    assert (done.returncode, done.stdout) == (2, "") and "unreachable" in done.stderr
    (running.run.tokens / "dead").write_text("aar_nothing\n")
    done = said("bridge", str(running.run.path), "dead")
    assert (done.returncode, done.stdout) == (2, "") and "refused the token" in done.stderr
    assert "Traceback" not in done.stderr and "aar_nothing" not in done.stderr


async def test_settings_for_a_server_with_its_own_ca_start_a_bridge_over_tls(
    running: Running, tmp_path: Path
) -> None:
    """The pasted settings work, with the campaign's CA and with no other."""
    run = RunDir(tmp_path / "far")
    run.path.mkdir()
    run.spec.write_text("{}", encoding="utf-8")
    files, port = certificates(run, "127.0.0.1"), str(free_port())
    words = ["--certificate", str(files.certificate), "--certificate-key", str(files.key)]
    with platform(running.task, run, "--task", running.task.name, "--port", port, *words) as far:
        token = far.token("ada")
        (run.tokens / "ada").write_text(token + "\n")
        url = ("--url", f"https://127.0.0.1:{port}")
        done = said("connect", str(run.path), "ada", *url, "--ca", str(files.ca))
        assert done.returncode == 0 and f"listening: {url[1]}" in done.stderr
        assert f"--cacert {files.ca}" in done.stdout
        done = said(
            "connect", str(run.path), "ada", *url, "--ca", str(files.ca), "--client", "generic"
        )
        settings = json.loads(done.stdout)["mcpServers"]["aarlab"]
        async with Client(stdio_client(StdioServerParameters(**settings))) as client:
            await works(client)
        other = certificates(RunDir(tmp_path / "other"), "127.0.0.1").ca
        done = said("bridge", str(run.path), "ada", *url, "--ca", str(other))
        assert done.returncode == 2 and "is refused" in done.stderr


def test_a_url_that_would_show_the_token_is_refused(running: Running) -> None:
    for command in ("connect", "bridge"):
        done = said(command, str(running.run.path), "ada", "--url", "http://lab.example:8321")
        assert done.returncode == 2 and "readable through the network" in done.stderr
    done = said("connect", str(running.run.path), "ada", "--ca", "x")
    assert done.returncode == 2 and "give both" in done.stderr
