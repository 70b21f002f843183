"""An AAR that means harm, with the student server's socket in its sandbox and its own tokens."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from student_kit import SETTINGS, admitted, client_of, rows_of, served, stored_world

from aarlab.agents.config import StudentAccess
from aarlab.agents.trial import _counted, student_mounts
from aarlab.core.errors import BudgetExhausted, Forbidden, Unreachable
from aarlab.sandbox.running import run
from aarlab.sandbox.spec import SandboxLimits, SandboxSpec
from aarlab.sandbox.workspace import aar_uid, prepare_workspace
from aarlab.students import server as server_module
from aarlab.students.calls import Session
from aarlab.students.client import Client, connected
from aarlab.students.grants import Grant, Limits, Operator, key_path
from aarlab.students.server import _bound
from aarlab.testbed.running.channel import Channel
from aarlab.testbed.students.options import HeadOptions

SLOW = HeadOptions(hidden=4096, epochs=200, batch=2)  # many seconds, and it breathes 200 times
ROOT = pytest.mark.skipif(os.getuid() != 0, reason="needs users of its own")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory):
    return stored_world("verification", tmp_path_factory.mktemp("stored"))


@pytest.fixture
def folder(tmp_path: Path):
    with served(tmp_path):
        yield tmp_path


def grant(stored, name: str = "m", **limits) -> Grant:
    world, path = stored
    return Grant.of(name, rows_of(world), SETTINGS, features=[str(path)], limits=Limits(**limits))


@pytest.fixture
def raw() -> Iterator[Callable[[Path, str], Channel]]:
    """Sessions without the client's code."""
    opened: list[Channel] = []

    def opens(folder: Path, token: str) -> Channel:
        opened.append(Channel(connected(folder / "s"), 2**30, 20.0))
        opened[-1].send("hello", {"token": token})
        assert opened[-1].receive().kind == "ok"
        return opened[-1]

    yield opens
    for channel in opened:
        channel.close()


def begin_slow(channel: Channel) -> None:
    channel.send("new", {"layer": 2, "adapter": None, "options": SLOW.model_dump(mode="json")})
    handle = channel.receive().facts["handle"]
    rows = np.arange(64, dtype=np.int32)
    channel.send("fit", {"handle": handle}, rows=rows, targets=np.zeros(64))


def usage(folder: Path, name: str = "m") -> dict:
    with Operator(folder / "s", folder / "locks") as operator:
        (found,) = [one for one in operator.status()["clients"] if one["name"] == name]
    return found


# ---------------------------------------------------------------- memory of the server
def test_answers_that_nobody_reads_count_together_against_the_quota(folder, stored, raw) -> None:
    """Eight connections that ask for all states and read nothing would hold eight answers."""
    rows = np.tile(np.arange(100, dtype=np.int32), 100)  # 640 kB of states, beyond any buffer
    token = admitted(folder, grant(stored, bytes=1_500_000))
    deaf = [raw(folder, token) for _ in range(4)]
    for channel in deaf:
        channel.send("states", {"layer": 2}, rows=rows)
    answers = [channel.receive() for channel in reversed(deaf)]
    assert usage(folder)["bytes"] <= 1_500_000
    refused = [a for a in answers if a.kind == "error"]
    assert 0 < len(refused) < 4 and "send fewer rows at once" in refused[0].facts["message"]
    deaf[0].send("usage")
    assert deaf[0].receive().facts["bytes"] == 0, "answers that were read are free again"


def test_rows_that_a_trainer_remembers_between_calls_count(folder, stored) -> None:
    with client_of(folder, grant(stored, bytes=3_000_000)) as client:
        trainers, many = [client.trainer(client.rows) for _ in range(8)], client.rows[:100] * 100
        with pytest.raises(BudgetExhausted, match="send fewer rows"):
            for trainer in trainers:
                trainer.forward(many)
        small = client.trainer(client.rows)
        small.forward(client.rows[:10])
        held = client.usage()["bytes"]
        small.backward(np.zeros(10))
        assert client.usage()["bytes"] < held


# ---------------------------------------------------------------- device seconds
def test_one_long_call_ends_when_the_device_seconds_are_used_up(
    folder, stored, raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit was looked at before a call: one call of any length passed it."""
    trained: list[int] = []
    monkeypatch.setattr(Session, "_trained", lambda *_: trained.append(1))
    channel = raw(folder, admitted(folder, grant(stored, device_s=0.2)))
    begin_slow(channel)
    answer = channel.receive()
    assert answer.kind == "error" and "0.2 device seconds of m are used up" in str(answer.facts)
    assert not trained and usage(folder)["device_s"] >= 0.2


def test_a_trial_on_one_task_pays_for_what_it_does_with_anothers_token(folder, stored) -> None:
    tokens = folder / "tokens"
    tokens.mkdir()
    for name in ("here", "there"):
        (tokens / f"{name}.token").write_text(admitted(folder, grant(stored, name)))
    access = StudentAccess(socket=folder / "s", tokens=tokens)
    before = _counted(access, ["here", "there"])
    with Client.open(folder / "s", access.token("there")) as client:
        client.students.new().fit(client.rows, np.zeros(len(client.rows)))
    after = _counted(access, ["here", "there"])
    assert after.tokens == before.tokens and after.device_s > before.device_s


# ---------------------------------------------------------------- attention of the server
def test_calls_beside_the_device_wait_while_another_client_has_it(
    tmp_path: Path, stored, raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of small calls a second would take the interpreter from another's training."""
    monkeypatch.setattr(server_module, "BESIDE_S", 600.0)
    with served(tmp_path) as server:
        flood = raw(tmp_path, admitted(tmp_path, grant(stored, "flood")))
        busy = raw(tmp_path, admitted(tmp_path, grant(stored, "busy")))
        begin_slow(busy)
        while server.queue.look()[0] != "busy":
            pass
        flood.send("usage")
        assert flood.receive().kind == "ok", "one is answered"
        flood.send("usage")
        flood._end.settimeout(0.2)
        with pytest.raises(TimeoutError):
            flood._end.recv(1)
        assert server.queue.look()[0] == "busy"
        busy.end()
        flood._end.settimeout(20.0)
        assert flood.receive().kind == "ok", "the device is free"


@ROOT
def test_silent_connections_of_one_sandbox_shut_out_nobody_else(
    folder, stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sandboxes of an ordinary user share that user with the operator and with other AARs."""
    monkeypatch.setattr(server_module, "UNKNOWN", 3)
    monkeypatch.setattr(server_module, "GREETING_S", 600.0)
    code = (
        "import socket, sys\n"
        "ends = [socket.socket(socket.AF_UNIX) for _ in range(8)]\n"
        "for end in ends: end.connect(sys.argv[1])\n"
        "for end in ends: end.settimeout(20)\n"
        "print([end.recv(1) for end in ends[3:]], flush=True)\n"
        "sys.stdin.read()\n"
    )
    argv = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([*argv, str(folder / "s")], **pipes) as silent:
        assert silent.stdout is not None and silent.stdin is not None
        assert silent.stdout.readline() == f"{[b''] * 5}\n", "more than three are closed"
        Client.open(folder / "s", admitted(folder, grant(stored))).close()
        silent.stdin.close()


# ---------------------------------------------------------------- the socket's path
@pytest.fixture
def everybodys() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        Path(made).chmod(0o777)
        yield Path(made)


@ROOT
def test_the_operator_sends_its_key_to_no_other_user(tmp_path: Path, everybodys: Path) -> None:
    path, locks = everybodys / "s", tmp_path / "locks"
    locks.mkdir()
    key_path(path, locks).write_text("the-key")
    code = (
        "import os, socket, sys\nos.setuid(65534)\nend = socket.socket(socket.AF_UNIX)\n"
        "end.bind(sys.argv[1])\nend.listen()\nprint('ready', flush=True)\n"
        "print(end.accept()[0].recv(1000))\n"
    )
    argv = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "ready\n"
        with pytest.raises(Forbidden, match="no key is sent"):
            Operator(path, locks)
        assert other.stdout.read() == "b''\n"


def test_a_link_at_the_sockets_path_leads_to_the_removal_of_nothing_else(tmp_path: Path) -> None:
    theirs, path = tmp_path / "theirs", tmp_path / "s"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(theirs))
    stale.close()
    path.symlink_to(theirs)
    end = _bound(path)
    end.listen()
    end.close()
    assert theirs.is_socket() and path.is_socket() and not path.is_symlink()


# ---------------------------------------------------------------- from inside a real sandbox
INSIDE = """
import json, os, pathlib, socket, sys
found = {}
def attempt(name, action):
    try:
        found[name] = str(action())[:300]
    except OSError as error:
        found[name] = f"OSError {error.errno}"
here, tokens = pathlib.Path("/students/socket"), pathlib.Path("/students/tokens")
attempt("tokens", lambda: sorted(p.name for p in tokens.iterdir()))
attempt("beside", lambda: sorted(p.name for p in here.parent.iterdir()))
attempt("others", lambda: [p.read_text() for p in pathlib.Path(sys.argv[1]).rglob("*.token")])
attempt("key", lambda: [p.read_text() for p in pathlib.Path(sys.argv[1]).rglob("*.key")])
attempt("remove", here.unlink)
attempt("rename", lambda: os.rename(here, "/students/old"))
attempt("link", lambda: os.symlink("/workspace/fake", "/students/new"))
attempt("bind", lambda: socket.socket(socket.AF_UNIX).bind("/students/mine"))
attempt("forge", lambda: (tokens / "a.token").write_text("x"))
from aarlab.students.client import Client
from aarlab.core.errors import AarlabError
for word in ("", "0" * 48, pathlib.Path(sys.argv[1]).name):
    try:
        Client.open(here, word)
        found["word"] = word
    except AarlabError as error:
        found[word] = error.code
client = Client.open(here, (tokens / "a.token").read_text().strip())
found["rows"] = len(client.rows)
print(json.dumps(found))
"""


@pytest.mark.gate
def test_a_sandbox_finds_its_own_tokens_and_cannot_touch_the_socket(
    folder: Path, stored, tmp_path: Path
) -> None:
    workspace, uid = tmp_path / "w", aar_uid(1) if os.getuid() == 0 else None
    tmp_path.chmod(0o711)
    prepare_workspace(workspace, uid)
    for aar in ("mine", "other"):
        (tmp_path / "students" / aar).mkdir(parents=True)
        token = admitted(folder, grant(stored, aar))
        (tmp_path / "students" / aar / "a.token").write_text(token)
    access = StudentAccess(socket=folder / "s", tokens=tmp_path / "students" / "mine")
    spec = SandboxSpec(
        workspace=workspace, read_only=student_mounts(access), uid=uid,
        limits=SandboxLimits(wall_s=120, cpu_s=60, memory_mb=2048),
    )  # fmt: skip
    done = run(spec, [sys.executable, "-c", INSIDE, str(tmp_path)])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("tokens") == "['a.token']" and found.pop("rows") > 100
    assert found.pop("beside") == "['socket', 'tokens']"
    assert found.pop("others") == found.pop("key") == "[]"
    assert found.pop("") == found.pop("0" * 48) == found.pop(tmp_path.name) == "forbidden"
    assert {name for name, said in found.items() if said.startswith("OSError")} == {
        "remove", "rename", "link", "bind", "forge"}  # fmt: skip


def test_a_crowd_of_tokens_that_are_none_leaves_no_thread_behind(folder, stored) -> None:
    before = threading.active_count()
    for _ in range(50):
        with pytest.raises((Forbidden, Unreachable)):
            Client.open(folder / "s", "0" * 48)
    Client.open(folder / "s", admitted(folder, grant(stored))).close()
    assert threading.active_count() <= before + 4
