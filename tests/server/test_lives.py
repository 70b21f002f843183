"""A supervisor whose AAR has a newer one is refused everywhere; agents without lives are not."""

import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from platform_kit import Running, TinyTask, start, stop
from postgres import Postgres

from aarlab.client.platform import PlatformClient
from aarlab.core.errors import Conflict, Forbidden, Superseded
from aarlab.core.layout import RunDir
from aarlab.core.supervision import LIFE_HEADER, supervisor_key
from aarlab.core.wire import NewFinding, NewSnapshot, SnapshotFile, Spend
from aarlab.core.wire_ledger import ModelCall, NewReservation
from aarlab.core.wire_service import NewWait
from aarlab.store.log import verify_log


def _supervisor(running: Running, token: str, name: str) -> PlatformClient:
    key = supervisor_key(running.operator_token, name)
    return PlatformClient(running.address, token, 20, key)


def _writes(aar: PlatformClient, running: Running) -> dict[str, Callable[[], object]]:
    file = SnapshotFile(path="method.py", content_b64="")
    post = NewFinding(kind="insight", title="t", text="x")
    return {
        "spend": lambda: aar.spend(Spend(kind="device_s", amount=1)),
        "reserve": lambda: aar.reserve(NewReservation(call="c", dollars=0.1, tokens=1)),
        "record": lambda: aar.record_call(ModelCall(call="c", model="m")),
        "wait": lambda: aar.wait(NewWait(kind="budget", note="", ago_s=0)),
        "submit": lambda: aar.submit(running.submission(0.7)),
        "snapshot": lambda: aar.put_snapshot(NewSnapshot(name="n", files=[file])),
        "finding": lambda: aar.post_finding(post),
        "tool": lambda: aar.call_tool("post_finding", {"post": post.model_dump()}),
    }


def test_every_request_of_an_older_life_is_refused(running: Running) -> None:
    token = running.token("two")
    with _supervisor(running, token, "two") as old, _supervisor(running, token, "two") as new:
        assert old.open_session().life == 1
        old.spend(Spend(kind="device_s", amount=1), key="before")
        assert new.open_session().life == 2
        with running.operator() as operator:
            before = operator.export()
        for name, write in _writes(old, running).items():
            with pytest.raises(Superseded, match="life 2; this is life 1"):
                write()
            assert old.life.over.is_set(), name
        for read in (old.me, old.tasks, old.snapshots, old.submissions, old.messages):
            with pytest.raises(Superseded):
                read()
        with pytest.raises(Superseded):
            old.spend(Spend(kind="device_s", amount=1), key="before")
        with pytest.raises(Superseded):  # it does not take the AAR back
            old.open_session()
        with running.operator() as operator:
            after = operator.export()
        for part in ("submissions", "findings", "snapshots", "sessions"):
            assert getattr(before, part) == getattr(after, part), part
        assert new.me().spend == {"device_s": 1}
        for write in _writes(new, running).values():
            write()


def test_it_is_no_conflict(running: Running) -> None:
    assert not issubclass(Superseded, Conflict)
    token = running.token("plain")
    with _supervisor(running, token, "plain") as old, _supervisor(running, token, "plain") as new:
        old.open_session()
        new.open_session()
        headers = {"Authorization": f"Bearer {token}", LIFE_HEADER: "1"}
        with httpx.Client(
            transport=httpx.HTTPTransport(uds=str(running.run.socket)), base_url="http://p"
        ) as http:
            answer = http.get("/v1/me", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (409, "superseded")


def test_opening_twice_with_one_key_is_one_life(running: Running) -> None:
    """The answer was lost: the same request comes again."""
    token = running.token("again")
    with _supervisor(running, token, "again") as aar:
        assert [aar.open_session(key="k").life for _ in range(2)] == [1, 1]
        assert aar.open_session(key="l").life == 2


def test_agents_that_joined_by_themselves_have_no_lives(running: Running) -> None:
    token = running.token("guest")
    with running.with_token(token) as one, running.with_token(token) as other:
        assert one.open_session().life == 0 and other.open_session().life == 0
        one.spend(Spend(kind="device_s", amount=1))
        other.spend(Spend(kind="device_s", amount=1))
    with _supervisor(running, token, "guest") as supervisor, running.with_token(token) as agent:
        supervisor.open_session()
        assert agent.open_session().life == 1, "it cannot end its supervisor"
        supervisor.spend(Spend(kind="device_s", amount=1))
        agent.spend(Spend(kind="device_s", amount=1))


def test_a_supervisor_without_a_session_writes_nothing(running: Running) -> None:
    with _supervisor(running, running.token("early"), "early") as aar:
        assert aar.me().name == "early"
        with pytest.raises(Forbidden, match="POST /v1/sessions"):
            aar.spend(Spend(kind="device_s", amount=1))


@pytest.mark.parametrize("given", ["", "one", "-1", "1.0", "9" * 10, "²"])
def test_a_life_that_is_no_number_is_refused(running: Running, given: str) -> None:
    headers = {"Authorization": f"Bearer {running.token('odd')}"}
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=str(running.run.socket)), base_url="http://p"
    ) as http:
        sent = [*headers.items(), (LIFE_HEADER, given)]
        raw = [(name.encode(), value.encode()) for name, value in sent]
        answer = http.get("/v1/me", headers=raw)
    assert answer.status_code == 422 and LIFE_HEADER in answer.json()["message"]


def test_mcp_calls_of_an_older_life_are_refused(running: Running) -> None:
    token = running.token("mcp")
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    call |= {"params": {"name": "my_budget", "arguments": {}}}
    with (
        _supervisor(running, token, "mcp") as aar,
        httpx.Client(
            transport=httpx.HTTPTransport(uds=str(running.run.socket)), base_url="http://p"
        ) as http,
    ):

        def called(life: int) -> httpx.Response:
            headers = {"Authorization": f"Bearer {token}", LIFE_HEADER: str(life)}
            headers["Accept"] = "application/json, text/event-stream"
            return http.post("/mcp", json=call, headers=headers)

        aar.open_session()
        assert called(1).status_code == 200
        aar.open_session()
        assert called(1).status_code == 409 and called(1).json()["code"] == "superseded"
        assert called(2).status_code == 200


@pytest.mark.gate
def test_another_server_refuses_the_write(
    tiny: TinyTask, tmp_path: Path, postgres: Postgres
) -> None:
    """The life was begun through one server, the older one writes through another."""
    database, blobs = postgres.fresh(), ("--blobs", str(tmp_path / "blobs"))
    first = start(tiny, RunDir(tmp_path / "a"), *blobs, "--task", "tiny", database=database)
    second_run = RunDir(tmp_path / "b")
    shutil.copytree(first.run.tokens, second_run.tokens)
    second_run.platform.chmod(0o700)
    second = start(tiny, second_run, *blobs, "--task", "tiny", database=database)
    try:
        token = first.token("far")
        with _supervisor(first, token, "far") as new, _supervisor(second, token, "far") as old:
            old.open_session()
            old.me()  # its server has looked the AAR up by now
            new.open_session()
            for write in _writes(old, second).values():
                with pytest.raises(Superseded):
                    write()
            new.spend(Spend(kind="device_s", amount=1))
    finally:
        for server in (first, second):
            stop(server.process)
    verify_log(database)
