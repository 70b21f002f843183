"""The server itself: tokens, isolation, frames, clients that are gone, its lock, its end."""

import contextlib
import json
import logging
import os
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from commands import aarlab
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from student_kit import SETTINGS, admitted, client_of, rows_of, served, stored_world
from tiny_models import save_tiny

from aarlab.core.device_lock import DeviceLock
from aarlab.core.errors import (
    AarlabError,
    BadInput,
    BudgetExhausted,
    Conflict,
    Forbidden,
    NotFound,
    Unreachable,
)
from aarlab.core.layout import DataRoot
from aarlab.students import calls
from aarlab.students import queue as queue_module
from aarlab.students import server as server_module
from aarlab.students.calls import CALLS, Session
from aarlab.students.client import Client, connected
from aarlab.students.grants import Grant, Limits, Operator, key_path
from aarlab.students.server import Serving, StudentServer, running
from aarlab.students.task_grants import when_it_answers
from aarlab.testbed.models.catalogue import add_own
from aarlab.testbed.running.channel import Channel
from aarlab.testbed.students.features import StoredFeatures
from aarlab.testbed.students.options import HeadOptions

SLOW = HeadOptions(hidden=4096, epochs=200, batch=2)  # many seconds, and it breathes 200 times


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    return stored_world("verification", tmp_path_factory.mktemp("stored"))


@pytest.fixture
def folder(tmp_path):
    """The folder of a started server."""
    with served(tmp_path):
        yield tmp_path


def grant(stored, name="m", **more):
    world, path = stored
    return Grant.of(name, rows_of(world), SETTINGS, features=[str(path)], **more)


def until(done, what, timeout_s=30.0):
    ends = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < ends, what
        time.sleep(0.01)


def status_of(folder, name="m"):
    with Operator(folder / "s", folder / "locks") as operator:
        (found,) = [one for one in operator.status()["clients"] if one["name"] == name]
    return found


def raw_session(folder, token):
    """A session without the client's code: its socket, and a channel that was greeted."""
    end = connected(folder / "s")
    channel = Channel(end, 2**30)
    channel.send("hello", {"token": token})
    assert channel.receive().kind == "ok"
    return end, channel


# ---------------------------------------------------------------- who may use what
def test_the_client_loads_no_torch_and_no_server():
    code = (
        "import sys, aarlab.students.client; "
        "sys.exit(', '.join({'torch', 'aarlab.students.server', 'aarlab.students.grants',"
        "'aarlab.testbed.models.cache'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_blind_client_gets_names_and_never_a_text(folder, stored):
    world, _ = stored
    token, frames = admitted(folder, grant(stored)), bytearray()
    end = connected(folder / "s")
    channel = Channel(end, 2**30)
    rows = np.arange(8, dtype=np.int32)
    for kind, facts, arrays in (
        ("hello", {"token": token}, {}),
        ("info", {}, {}),
        ("states", {"layer": 2}, {"rows": rows}),
        ("logp", {}, {"rows": rows}),
        ("ask", {"template": "{prompt} {answer}"}, {"rows": rows}),
        ("states", {"layer": 2}, {"rows": rows + len(rows_of(world))}),
        ("layers", {}, {"rows": rows}),
        ("nothing", {}, {}),
    ):
        channel.send(kind, facts, **arrays)
        sizes = end.recv(8, socket.MSG_WAITALL)
        frames += end.recv(sum(struct.unpack("<II", sizes)), socket.MSG_WAITALL)
    end.close()
    text, examples = bytes(frames), rows_of(world)
    assert examples[0].id.encode() in text
    for example in examples:
        assert example.prompt.encode() not in text
        assert not any(answer.encode() in text for answer in example.answers)
        assert not any(key.encode() in text for key in example.keys), "a hash is a text's name"


def test_keys_are_drawn_for_each_session_unless_the_client_has_the_texts(folder, stored):
    token, drawn = admitted(folder, grant(stored)), []
    for _ in range(2):
        with Client.open(folder / "s", token) as client:
            drawn.append({key for row in client.rows for key in row.keys})
            assert client.rows[0].group == rows_of(stored[0])[0].group
    assert len(drawn[0]) == len(rows_of(stored[0])) and not drawn[0] & drawn[1]
    with client_of(folder, grant(stored, reads_texts=True)) as client:
        assert [row.keys for row in client.rows] == [row.keys for row in rows_of(stored[0])]


@pytest.mark.parametrize("number", [-1, 560, 10**6])
def test_a_row_that_was_not_granted_is_refused(folder, stored, number):
    end, channel = raw_session(folder, admitted(folder, grant(stored)))
    with end:
        channel.send("states", {"layer": 2}, rows=np.array([0, number], np.int32))
        answer = channel.receive()
        assert answer.kind == "error" and f"no row {number}" in answer.facts["message"]


def test_a_handle_of_another_client_does_not_exist(folder, stored):
    with client_of(folder, grant(stored, "a")) as one, client_of(folder, grant(stored, "b")) as two:
        mine = one.students.new().fit(one.rows, np.ones(len(one.rows)))
        for kind in ("predict", "head", "forward", "save"):
            with pytest.raises(NotFound, match="no handle 1 in this session"):
                two.connection.ask(kind, {"handle": mine._owner.handle}, rows=np.zeros(1, np.int32))
        asked = one.ask(one.rows[:2], "{prompt}")
        with pytest.raises(NotFound, match="no row"):
            two.connection.ask(
                "logp", None, rows=np.array([row.place.number for row in asked], np.int32)
            )
        two.connection.ask("usage", {"free": [mine._owner.handle]})
        assert len(mine.predict_proba(one.rows)) == len(one.rows), "nor can it be freed"


def test_a_handle_of_another_kind_is_refused(folder, stored):
    with client_of(folder, grant(stored)) as client:
        trainer = client.trainer(client.rows)
        student = client.students.new()
        for kind, handle, said in (
            ("predict", trainer._owner.handle, "not that of a student"),
            ("forward", student._owner.handle, "not that of a trainer"),
        ):
            with pytest.raises(BadInput, match=said):
                client.connection.ask(kind, {"handle": handle}, rows=np.zeros(1, np.int32))
        with pytest.raises(BadInput, match="has not been trained"):
            student.predict_proba(client.rows)


def test_wrong_words_open_nothing(folder, stored, tmp_path):
    admitted(folder, grant(stored))
    with pytest.raises(Forbidden, match="no client has this token"):
        Client.open(folder / "s", "x" * 48)
    key, wrong = (
        key_path(folder / "s", folder / "locks"),
        key_path(folder / "s", tmp_path / "wrong"),
    )
    wrong.parent.mkdir()
    wrong.write_text("0" * 64)
    with pytest.raises(BadInput, match="no client has this token"):
        Operator(folder / "s", wrong.parent)
    with pytest.raises(NotFound, match="is one running"):
        Operator(folder / "other", folder / "locks")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.parent != (folder / "s").parent, "sandboxes see the folder of a socket"
    assert stat.S_IMODE((folder / "s").stat().st_mode) == 0o666


def test_a_withdrawn_client_is_ended_and_what_it_used_is_said(folder, stored):
    with Operator(folder / "s", folder / "locks") as operator:
        token = operator.admit(grant(stored))
        client = Client.open(folder / "s", token)
        client.students.new().fit(client.rows, np.zeros(len(client.rows)))
        used = operator.withdraw("m")
        assert used["handles"] == used["bytes"] == 0 and used["device_s"] > 0
        assert used["rows_trained"] == len(client.rows) * client.students.options.epochs
        with pytest.raises(Unreachable, match="run the method from its start"):
            client.usage()
        client.close()
        with pytest.raises(Forbidden):
            Client.open(folder / "s", token)
        with pytest.raises(BadInput, match="there is no client 'm'"):
            operator.withdraw("m")


def test_a_client_that_is_admitted_again_keeps_what_it_used(folder, stored):
    old = admitted(folder, grant(stored))
    client = Client.open(folder / "s", old)
    client.students.states(client.rows)
    with client_of(folder, grant(stored)) as again:
        with pytest.raises(Unreachable):
            client.usage()
        with pytest.raises(Forbidden):
            Client.open(folder / "s", old)
        assert again.usage()["rows_forwarded"] == len(again.rows)
    client.close()


def test_grants_on_the_same_files_share_one_copy(tmp_path, stored):
    with served(tmp_path) as server:
        for name in "abc":
            admitted(tmp_path, grant(stored, name))
        assert len({id(client.stored) for client in server._clients.values()}) == 1
        assert isinstance(next(iter(server._stored.values())), StoredFeatures)
        with Operator(tmp_path / "s", tmp_path / "locks") as operator:
            for name in "abc":
                operator.withdraw(name)
        assert server._stored == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": ""}, "grant.name"),
        ({"kind": "first"}, "grant.kind"),
        ({"model": "none", "features": []}, "no model 'none' here"),
        ({"features": []}, "name a model, files of stored features, or both"),
        ({"limits": {"bytes": 1}}, "grant.limits.bytes"),
        ({"more": 1}, "grant.more"),
        ({"n_answers": 2}, "expected id, group, prompt and one or two answers"),
    ],
)
def test_a_grant_that_does_not_fit_is_refused(folder, stored, change, said):
    made = grant(stored)
    facts = made.facts.model_dump(mode="json") | change
    from aarlab.students.rows import packed_rows

    with (
        Operator(folder / "s", folder / "locks") as operator,
        pytest.raises(BadInput, match=re.escape(said)),
    ):
        operator._ask("admit", facts, **packed_rows(made.rows[:3]))


def test_status_shows_servers_and_clients(folder, stored, monkeypatch, capsys):
    monkeypatch.setenv("AARLAB_DEVICE_LOCKS", str(folder / "locks"))
    with client_of(folder, grant(stored, "rowan\x1b[31m", kind="background")) as client:
        kept = client.students.new().fit(client.rows, np.zeros(len(client.rows)))
        assert aarlab(capsys, "students", "status", "--json")[0] == 0
        code, said = aarlab(capsys, "students", "status", "--socket", str(folder / "s"))
        assert code == 0 and "background" in said and "\x1b" not in said and "5,600" in said
        assert kept.options.epochs == 10
    monkeypatch.setenv("AARLAB_DEVICE_LOCKS", str(folder / "none"))
    assert "no student server runs on this machine" in aarlab(capsys, "students", "status")[1]


# ---------------------------------------------------------------- quotas
def test_device_seconds_end_at_the_grants_limit(folder, stored):
    with (
        client_of(folder, grant(stored, limits=Limits(device_s=0.0))) as client,
        pytest.raises(BudgetExhausted, match="0 device seconds of m are used up"),
    ):
        client.students.states(client.rows)


def test_rows_of_templates_count_and_are_freed_when_dropped(folder, stored):
    with client_of(folder, grant(stored, limits=Limits(bytes=2**18))) as client:
        asked = client.ask(client.rows[:200], "{prompt}")
        held = client.usage()["bytes"]
        assert held > 200 * 500
        with pytest.raises(BudgetExhausted, match="MB on the server"):
            kept = [client.ask(client.rows[:200], "{prompt}") for _ in range(3)]
        kept = []
        assert len(kept) == 0 and client.usage()["bytes"] == held
        del asked
        used = client.usage()
        assert used["handles"] == used["bytes"] == 0


def test_compute_is_counted_on_the_server_and_returned(folder, stored):
    with client_of(folder, grant(stored)) as client:
        client.students.states(client.rows)
        student = client.students.new().fit(client.rows, np.zeros(len(client.rows)))
        n, epochs = len(client.rows), student.options.epochs
        used, compute = client.usage(), client.students.compute
        assert used["rows_forwarded"] == compute.rows_forwarded == 2 * n
        assert used["rows_trained"] == compute.rows_trained == n * epochs
        assert used["device_s"] == pytest.approx(compute.seconds) and compute.seconds > 0
        with client.students.counted(rows_forwarded=5, rows_trained=7):
            pass
        assert compute.rows_trained == client.usage()["rows_trained"] == n * epochs


# ---------------------------------------------------------------- frames
HEADER = {"kind": "states", "facts": {"layer": 2}, "arrays": [["rows", "<i4", [1]]]}


def frame(header, body=b""):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<II", len(raw), len(body)) + raw + body


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory, stored):
    """A server, the token of who sends noise, and a client beside it."""
    place = tmp_path_factory.mktemp("fuzz")
    with served(place):
        limits = Limits(bytes=2**22, handles=20)
        token = admitted(place, grant(stored, "noise", limits=limits))
        with client_of(place, grant(stored, "beside")) as beside:
            yield place, token, beside.connection


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(max_size=200), at=st.integers(0, 60), framed=st.booleans())
def test_noise_ends_its_own_session_alone(fuzzed, noise, at, framed):
    place, token, beside = fuzzed
    end, _ = raw_session(place, token)
    whole = frame(HEADER, b"\0\0\0\0")
    with end:
        end.sendall(whole[:at] + noise + whole[at + len(noise) :] if framed else noise)
        end.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):  # it closes without reading the rest
            while end.recv(65536):
                pass
    assert beside.ask("usage").facts["calls"] > 0


names = st.sampled_from(
    ["handle", "layer", "options", "adapter", "template", "words", "texts", "n", "lr", "seed",
     "scale", "saved", "free", "asked_swapped", "n_answers"]
)  # fmt: skip
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 600)
    | st.sampled_from([2**31, 2**63, -(2**70), 1e300, -1.5, 0.01])
    | st.sampled_from(["", "{prompt}", "{prompt[0]}", "lora", "ce", "self", "\x1b[2J"])
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["hidden", "epochs", "kind", "seed", "self", "loss", "stop", "batch"]),
        inner, max_size=3,
    ),
    max_leaves=5,
)  # fmt: skip
dtypes = st.sampled_from(["<f4", "<f8", "<i4", "<i8", "|b1", "S1", "S7"])
arrays = st.dictionaries(
    st.sampled_from(["rows", "swapped", "targets", "weights", "grad", "texts", "ends"]),
    st.builds(
        lambda dtype, shape, seed: np.random.default_rng(seed)
        .integers(0, 3, shape).astype(dtype),
        dtypes, st.lists(st.integers(0, 4), max_size=3), st.integers(0, 9),
    ),
    max_size=4,
)  # fmt: skip


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from([*CALLS, "hello", "operator", "admit", ""]),
    facts=st.dictionaries(names, values, max_size=5),
    given_arrays=arrays,
)
def test_a_frame_of_any_content_is_answered_and_is_no_fault_of_the_server(
    fuzzed, kind, facts, given_arrays
):
    place, token, _ = fuzzed
    end, channel = raw_session(place, token)
    with end:
        channel.send("new", {"layer": 2, "adapter": None, "options": {}})
        channel.receive()
        rows = np.arange(8, dtype=np.int32)
        channel.send("trainer", {"layer": 2, "adapter": None, "options": {}}, rows=rows)
        channel.receive()
        channel.send(kind, facts, **given_arrays)
        answer = channel.receive()
        assert answer.kind in ("ok", "error")
        assert "the student server failed" not in answer.facts.get("message", ""), answer
        channel.send("usage")
        assert channel.receive().kind == "ok"


@pytest.mark.parametrize(
    ("kind", "facts", "said"),
    [
        ("new", {"layer": 2, "options": {"self": 1}}, "options: there is no 'self'"),
        ("new", {"layer": 2, "options": {"hidden": 10**6}}, "head.hidden"),
        ("new", {"layer": 2, "options": []}, "options: expected names and values"),
        ("new", {"layer": "2", "options": {}}, "layer: expected a whole number"),
        ("new", {"layer": True, "options": {}}, "layer: expected a whole number"),
        ("new", {"layer": 2, "options": {}, "adapter": {"kind": "none"}}, "adapter.kind"),
        ("new", {"layer": 2, "options": {}, "adapter": {"kind": "lora"}}, "not the model"),
        ("states", {"layer": 9}, "no states of layer 9"),
        ("step", {"handle": 1, "lr": 1e9}, "lr: expected a number from 0 to 1"),
        ("step", {"handle": 1, "lr": "x"}, "lr: expected a number from 0 to 1"),
        ("ask", {"template": 5}, "template: expected a text"),
        ("ask", {"template": "{prompt}", "words": [1]}, "words: expected a list of texts"),
        ("ask", {"template": "{prompt}", "texts": [1]}, "texts: expected generated texts"),
        ("ask", {"template": "{prompt}", "texts": [7]}, "no handle 7"),
        ("fit", {"handle": 1}, "not that of a student"),
        ("restore", {"handle": 1, "saved": 1}, "not what this trainer saved"),
        ("usage", {"free": 3}, "free: expected a list"),
        ("generate", {"template": "{prompt}", "n": 0, "options": {}}, "not the model"),
        ("nonsense", {}, "no call 'nonsense'; there are info, usage"),
    ],
)
def test_wrong_values_are_named(folder, stored, kind, facts, said):
    end, channel = raw_session(folder, admitted(folder, grant(stored)))
    with end:
        rows = np.arange(8, dtype=np.int32)
        channel.send("trainer", {"layer": 2, "adapter": None, "options": {}}, rows=rows)
        assert channel.receive().facts["handle"] == 1
        channel.send(kind, facts, rows=rows)
        answer = channel.receive()
        assert answer.kind == "error" and said in answer.facts["message"], answer.facts


def test_a_frame_over_the_limit_ends_the_session_and_frees_it(folder, stored):
    end, channel = raw_session(folder, admitted(folder, grant(stored)))
    with end:
        channel.send("new", {"layer": 2, "adapter": None, "options": {}})
        assert channel.receive().facts["handle"] == 1
        end.sendall(struct.pack("<II", 10, server_module.MAX_REQUEST + 1))
        answer = channel.receive()
        assert answer.kind == "error" and "too long" in answer.facts["message"]
        until(lambda: status_of(folder)["sessions"] == 0, "the session is ended")
    assert status_of(folder)["handles"] == 0


def test_an_answer_over_the_limit_is_refused(folder, stored, monkeypatch):
    monkeypatch.setattr(calls, "MAX_REPLY", 1000)
    with client_of(folder, grant(stored)) as client:
        with pytest.raises(BadInput, match="ask for fewer rows at once"):
            client.students.states(client.rows)
        assert client.students.states(client.rows[:3]).shape == (3, 1, 16)


def test_a_fault_of_the_server_says_nothing_and_the_session_goes_on(
    folder, stored, monkeypatch, caplog
):
    def breaks(*_):
        raise ZeroDivisionError("a secret")

    monkeypatch.setitem(CALLS, "usage", breaks)
    with client_of(folder, grant(stored)) as client, caplog.at_level(logging.ERROR):
        with pytest.raises(AarlabError, match="failed \\(ZeroDivisionError\\)") as caught:
            client.usage()
        assert "secret" not in str(caught.value) and "a secret" in caplog.text
        assert client.students.states(client.rows[:2]).shape[0] == 2


def test_out_of_memory_outside_the_model_says_what_to_lower(folder, stored, monkeypatch):
    def hungry(*_):
        raise MemoryError

    monkeypatch.setattr(StoredFeatures, "states", hungry)
    with (
        client_of(folder, grant(stored)) as client,
        pytest.raises(BadInput, match="send fewer rows at once"),
    ):
        client.students.states(client.rows)


# ---------------------------------------------------------------- slow and dead clients
def test_a_client_that_ends_frees_what_it_held(folder, stored):
    client = Client.open(folder / "s", admitted(folder, grant(stored)))
    held = [client.students.new(), client.trainer(client.rows), client.ask(client.rows, "{prompt}")]
    assert status_of(folder)["handles"] == len(held) and status_of(folder)["bytes"] > 0
    client.close()
    until(lambda: status_of(folder)["sessions"] == 0, "the session is ended")
    assert status_of(folder)["handles"] == status_of(folder)["bytes"] == 0


def test_a_client_that_dies_in_a_call_gives_the_device_up(tmp_path, stored, monkeypatch):
    ended = []
    monkeypatch.setattr(Session, "_trained", lambda *_: ended.append(1))
    with served(tmp_path) as server:
        end, channel = raw_session(tmp_path, admitted(tmp_path, grant(stored)))
        start_slow(channel)
        until(lambda: server.queue.look()[0] == "m", "the call has the device")
        end.close()
        until(lambda: server.queue.look()[0] is None, "the device is free")
        until(lambda: status_of(tmp_path)["sessions"] == 0, "the session is ended")
        assert not ended, "the call was not run to its end"
        assert status_of(tmp_path)["device_s"] > 0, "what it used is booked"


def start_slow(channel, rows=64):
    channel.send("new", {"layer": 2, "adapter": None, "options": SLOW.model_dump(mode="json")})
    handle = channel.receive().facts["handle"]
    numbers = np.arange(rows, dtype=np.int32)
    channel.send("fit", {"handle": handle}, rows=numbers, targets=np.zeros(rows))


def test_a_long_call_gives_way_between_steps(tmp_path, stored, monkeypatch):
    monkeypatch.setattr(queue_module, "SLICE_S", 0.0)
    with served(tmp_path) as server, client_of(tmp_path, grant(stored, "short")) as client:
        end, channel = raw_session(tmp_path, admitted(tmp_path, grant(stored, "long")))
        start_slow(channel, 320)
        until(lambda: server.queue.look()[0] == "long", "the call has the device")
        for _ in range(3):
            assert client.students.states(client.rows[:2]).shape[0] == 2
        end.setblocking(False)
        with pytest.raises(BlockingIOError):
            end.recv(1)  # the long one is not done
        end.close()
        until(lambda: server.queue.look()[0] is None, "the device is free")


def test_a_client_that_stops_in_a_frame_is_ended(folder, stored, monkeypatch):
    monkeypatch.setattr(server_module, "FRAME_S", 0.3)
    end, channel = raw_session(folder, admitted(folder, grant(stored)))
    with end:
        channel.send("new", {"layer": 2, "adapter": None, "options": {}})
        channel.receive()
        end.sendall(frame(HEADER, b"\0\0\0\0")[:-2])
        assert end.recv(1) == b""
    until(lambda: status_of(folder)["handles"] == 0, "what it held is freed")


def test_a_client_that_does_not_read_holds_up_nobody(folder, stored, monkeypatch):
    monkeypatch.setattr(server_module, "FRAME_S", 1.0)
    end, channel = raw_session(folder, admitted(folder, grant(stored, "deaf")))
    with end, client_of(folder, grant(stored)) as client:
        numbers = np.tile(np.arange(320, dtype=np.int32), 40)
        with contextlib.suppress(AarlabError):
            for _ in range(8):
                channel.send("states", {"layer": 2}, rows=numbers)
        assert client.students.states(client.rows[:2]).shape[0] == 2
        until(lambda: status_of(folder, "deaf")["sessions"] == 0, "it is ended")


def test_connections_that_do_not_say_who_they_are_are_few_and_short(folder, stored, monkeypatch):
    monkeypatch.setattr(server_module, "UNKNOWN", 3)
    monkeypatch.setattr(server_module, "GREETING_S", 600.0)
    token = admitted(folder, grant(stored))
    silent = [connected(folder / "s") for _ in range(3)]
    one_more = connected(folder / "s")
    one_more.settimeout(20)
    assert one_more.recv(1) == b"", "one more is closed at once"
    for end in (*silent, one_more):
        end.close()

    def opens():
        with contextlib.suppress(Unreachable):
            Client.open(folder / "s", token).close()
            return True
        return False

    until(opens, "there is room again")
    monkeypatch.setattr(server_module, "GREETING_S", 0.2)
    with connected(folder / "s") as end:
        assert end.recv(1) == b"", "a silent one is closed"


def test_a_connection_without_a_thread_is_closed_and_the_server_goes_on(
    folder, stored, monkeypatch, caplog
):
    token, start = admitted(folder, grant(stored)), threading.Thread.start

    def none_left(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    with connected(folder / "s") as end:
        end.settimeout(20)
        assert end.recv(1) == b"" and "no thread is left" in caplog.text
    monkeypatch.setattr(threading.Thread, "start", start)
    Client.open(folder / "s", token).close()


# ---------------------------------------------------------------- lock, socket, restart
def test_a_device_has_one_server(tmp_path):
    with served(tmp_path):
        other = StudentServer(Serving(tmp_path / "t", tmp_path / "locks"), {})
        said = rf"process {os.getpid()}, socket {tmp_path / 's'}\) has this device"
        with pytest.raises(Conflict, match=said):
            other.start()
        assert not (tmp_path / "t").exists()
        (found,) = running(tmp_path / "locks")
        assert found["device"] == "cpu" and found["socket"] == str(tmp_path / "s")
        other = StudentServer(Serving(tmp_path / "s", tmp_path / "locks", device="cuda-7"), {})
        with pytest.raises(Conflict, match=r"answers at .* already"):
            other.start()
        with served(tmp_path / "locks", device="cuda-1"):
            pass
    assert running(tmp_path / "locks") == []
    assert not (tmp_path / "s").exists()
    assert not key_path(tmp_path / "s", tmp_path / "locks").exists()
    with served(tmp_path):
        pass


def test_a_lock_folder_of_others_is_refused(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(BadInput, match="AARLAB_DEVICE_LOCKS"):
        DeviceLock(tmp_path / "open", "cpu").take({})


def test_a_socket_path_that_is_too_long_says_so(tmp_path):
    with pytest.raises(BadInput, match="at most 107 bytes"):
        StudentServer(Serving(tmp_path / ("x" * 120), tmp_path / "locks"), {}).start()
    assert running(tmp_path / "locks") == []


def started(root: Path, place: Path) -> subprocess.Popen:
    words = [sys.executable, "-m", "aarlab.students", "--socket", str(place / "s")]
    words += ["--models", "tiny", "--device", "cpu", "--price", "2.5"]
    more = {"AARLAB_HOME": str(root), "AARLAB_DEVICE_LOCKS": str(place / "locks")}
    with (place / "log").open("ab") as log:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=log, env=os.environ | more)
    while b"serving students on cpu" not in (line := process.stdout.readline()):
        assert line, (place / "log").read_text()
    return process


def test_nobody_can_connect_before_the_key_of_this_server_is_there(tmp_path, monkeypatch):
    """A killed server leaves its key, and whoever came early sent it to the next server."""
    plain, written = server_module.write_atomic, []

    def write(path, *rest):
        with pytest.raises(Unreachable):
            connected(tmp_path / "s")
        written.append(path)
        plain(path, *rest)

    monkeypatch.setattr(server_module, "write_atomic", write)
    key = key_path(tmp_path / "s", tmp_path / "locks")
    key.parent.mkdir(mode=0o700)
    key.write_text("of a killed server")
    with served(tmp_path):
        Operator(tmp_path / "s", tmp_path / "locks").close()
    assert written == [key]


@pytest.mark.parametrize("early", [NotFound, Unreachable, Forbidden])
def test_grants_are_made_again_until_the_server_is_ready(early, monkeypatch):
    tries = []

    def make():
        tries.append(1)
        if len(tries) < 3:
            raise early("not yet")

    when_it_answers(make)
    assert len(tries) == 3
    with pytest.raises(early):
        tries.clear()
        when_it_answers(make, lambda: True)


@pytest.mark.gate
def test_a_killed_server_frees_the_device_and_a_restart_goes_on(tmp_path, tmp_path_factory):
    from tiny_task import HEAD, word_rows

    from aarlab.testbed.tasks.train_task import StudentSettings

    home, place = tmp_path / "home", tmp_path_factory.mktemp("p")
    save_tiny("llama", tmp_path / "hf")
    add_own(DataRoot(home), "models", "tiny", {"folder": str(tmp_path / "hf"), "context": 128})
    rows, targets = word_rows(24, "train")
    made = Grant.of("m", rows, StudentSettings(3, HEAD, None), "tiny")
    processes = [started(home, place)]
    try:
        client = Client.open(place / "s", admitted(place, made))
        assert client.info()["price"] == 2.5 and client.info()["n_blocks"] == 3
        first = client.students.new().fit(client.rows, targets).predict_proba(client.rows)
        processes[0].send_signal(signal.SIGKILL)
        processes[0].wait(30)
        with pytest.raises(Unreachable, match="connect again and run the method from its start"):
            client.students.states(client.rows)
        with pytest.raises(Unreachable, match="aarlab students serve"):
            Client.open(place / "s", "x")
        client.close()
        processes.append(started(home, place))
        with client_of(place, made) as client:
            again = client.students.new().fit(client.rows, targets).predict_proba(client.rows)
            assert np.array_equal(first, again)
        processes[1].send_signal(signal.SIGTERM)
        assert processes[1].wait(30) == 0
        assert not (place / "s").exists() and running(place / "locks") == []
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait(30)
            process.stdout.close()
