"""The way to the platform of an agent in a sandbox: one AAR's rights, and no other address."""

import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from platform_kit import Running, platform, start, stop, write_task

from aarlab.agents.external.platform_proxy import SOCKET, PlatformProxy
from aarlab.client.platform import PlatformClient
from aarlab.core.errors import Superseded
from aarlab.core.layout import RunDir
from aarlab.core.supervision import LIFE_HEADER, SUPERVISOR_HEADER, supervisor_key

MAKE = {"kind": "insight", "title": "t", "text": "x"}


def post(client: httpx.Client) -> httpx.Response:
    return client.post("/v1/findings", json=MAKE, headers={"Idempotency-Key": secrets.token_hex(8)})


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("platform")
    with platform(write_task(home / "data"), RunDir(home / "run")) as made:
        yield made


@contextmanager
def agent(running: Running, folder: Path, name: str, **more: object) -> Iterator[httpx.Client]:
    """A client in the agent's place, which has no token."""
    proxy = PlatformProxy(running.address, running.token(name), **more)
    transport = httpx.HTTPTransport(uds=str(folder / SOCKET), verify=False)
    with (
        proxy.serving(folder),
        httpx.Client(base_url="http://platform", transport=transport, timeout=30) as client,
    ):
        yield client


def test_it_has_its_own_rights_whatever_it_sends(running: Running, tmp_path: Path) -> None:
    key, life = supervisor_key(running.operator_token, "mine"), {LIFE_HEADER: "9"}
    with agent(running, tmp_path, "mine") as client:
        for token in (running.token("other"), running.operator_token, "nonsense"):
            sent = {"Authorization": f"Bearer {token}", SUPERVISOR_HEADER: key, **life}
            said = client.get("/v1/me", headers=sent)
            assert said.status_code == 200 and said.json()["name"] == "mine"
            refused = client.get("/v1/operator/aars", headers=sent)
            assert refused.status_code == 403
            assert client.get("/v1/kept", headers=sent).status_code == 403
        sent = {SUPERVISOR_HEADER: key, "Idempotency-Key": "begin"}
        opened = client.post("/v1/sessions", headers=sent)
        assert opened.json()["life"] == 0, "that begins no life of its own"


@pytest.mark.parametrize(
    "path",
    ["/", "/health", "/login", "/aars/mine", "/mcp/x", "/v1", "/static/app.css", "//x/v1/me"],
)
def test_nothing_else_is_there(running: Running, tmp_path: Path, path: str) -> None:
    with agent(running, tmp_path, "looks") as client:
        said = client.get(f"http://platform{path}")
        assert said.status_code == 404 and "rights of this AAR" in said.json()["message"]


def raw(folder: Path, line: str) -> str:
    """The answer to a request line that no well-made client sends."""
    with socket.socket(socket.AF_UNIX) as end:
        end.connect(str(folder / SOCKET))
        end.sendall(f"{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: end.recv(4096), b"")).decode()


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/v1/../login",
            "/v1/%2e%2e/login",
            "/v1/./../health",
            "/v1/x#/../login",
            "/v1/\\..\\login",
        ),
        *("http://other.example/v1/me", "//other.example/v1/me", "//[/v1/me", "/v1/\x7f", "*"),
    ],
)
def test_no_path_leads_elsewhere(running: Running, tmp_path: Path, path: str) -> None:
    with agent(running, tmp_path, "climbs"):
        said = raw(tmp_path, f"GET {path}")
    assert said.startswith("HTTP/1.1 404") and "rights of this AAR" in said, said


def test_an_older_life_is_refused(running: Running, tmp_path: Path) -> None:
    key = supervisor_key(running.operator_token, "twice")
    with PlatformClient(running.address, running.token("twice"), 20, key) as first:
        first.open_session()
        with agent(running, tmp_path, "twice", life=first.life.number) as client:
            assert post(client).status_code == 200
            with PlatformClient(running.address, running.token("twice"), 20, key) as second:
                second.open_session()
            said = post(client)
            assert (said.status_code, said.json()["code"]) == (409, "superseded")


def test_the_state_is_kept_before_what_may_write(running: Running, tmp_path: Path) -> None:
    kept = list[str]()

    def keep() -> None:
        kept.append("kept")
        if len(kept) > 2:
            raise Superseded("a newer life has begun")

    with agent(running, tmp_path, "keeps", keep=keep) as client:
        client.get("/v1/me")
        assert kept == []
        post(client)
        client.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/call"})
        assert len(kept) == 2
        said = post(client)
        assert (said.status_code, said.json()["code"]) == (409, "superseded")
    with running.operator() as operator:
        assert len([f for f in operator.export().findings if f.author == "keeps"]) == 1


def test_a_request_waits_for_a_platform_that_is_away(tmp_path: Path) -> None:
    task = write_task(tmp_path / "data")
    first = start(task, RunDir(tmp_path / "run"))
    with agent(first, tmp_path / "s", "waits", away_s=60) as client:
        stop(first.process)
        said = list[httpx.Response]()
        asking = threading.Thread(target=lambda: said.append(client.get("/v1/me")))
        asking.start()
        second = start(task, RunDir(tmp_path / "run"))
        asking.join(60)
        stop(second.process)
    assert said[0].json()["name"] == "waits"
    proxy = PlatformProxy(first.address, "token", away_s=0.1)
    transport = httpx.HTTPTransport(uds=str(tmp_path / "s" / SOCKET), verify=False)
    with (
        proxy.serving(tmp_path / "s"),
        httpx.Client(base_url="http://x", transport=transport) as client,
    ):
        assert client.get("/v1/me").json()["code"] == "unreachable"
