"""Attacks on the channel of a verified run: it is settled as failed with a reason, and goes on."""

import contextlib
import json
import logging
import resource
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import verified_run
from gaussian_task import STRONG
from hypothesis import given
from hypothesis import strategies as st
from toy_campaign import build_toy

from aarlab.core.errors import BadInput
from aarlab.core.layout import DataRoot
from aarlab.core.wire import VerificationResult
from aarlab.testbed.running.channel import MAX_HEADER, Channel, ChannelClosed
from aarlab.verify import judge, rerun
from aarlab.verify.hidden import held_for
from aarlab.verify.judge import MAX_ASKED, MAX_MESSAGE, Hearing, Holding, Judge, Pair

LIMIT = 4096
Peer = Callable[[Channel, socket.socket], None]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    return build_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def held(toy: DataRoot) -> Holding:
    return held_for(toy, "gauss", "selection", "secret")[0]


# ---------------------------------------------------------------- frames
def frame(arrays: object, body: bytes = b"", **more: object) -> bytes:
    header = json.dumps({"kind": "probs", "facts": {}, "arrays": arrays, **more}).encode()
    return struct.pack("<II", len(header), len(body)) + header + body


def raw(header: bytes, body: bytes = b"") -> bytes:
    return struct.pack("<II", len(header), len(body)) + header + body


def received(sent: bytes):
    ours, theirs = socket.socketpair()
    writer = threading.Thread(target=lambda: (theirs.sendall(sent), theirs.close()))
    writer.start()
    try:
        return Channel(ours, LIMIT).receive()
    finally:
        ours.close()  # wakes the writer
        writer.join()


NO_MESSAGES = {
    "lengths of four gigabytes": (struct.pack("<II", 2**32 - 1, 2**32 - 1), "too long"),
    "a header over its limit": (struct.pack("<II", MAX_HEADER + 1, 0), "too long"),
    "a body over its limit": (struct.pack("<II", 2, LIMIT + 1), "too long"),
    "no JSON": (raw(b"{{{{"), "not JSON"),
    "no UTF-8": (raw(b"\xff\xfe{}"), "not UTF-8"),
    "an empty header": (raw(b""), "not JSON"),
    "JSON without end": (raw(b"[" * 60_000), "nested over"),
    "a number of ten thousand digits": (raw(b"9" * 10_000), "not JSON"),
    "no object": (raw(b"[1, 2, 3]"), "expected kind, facts and arrays"),
    "a field more": (frame([], seed=1), "expected kind, facts and arrays"),
    "a kind that is a number": (frame([], kind=7), "of another type"),
    "objects to unpickle": (frame([["a", "|O", [1]]], b"8" * 8), "are not sent"),
    "records": (frame([["a", "V8", [1]]], b"8" * 8), "are not sent"),
    "a type that is a list": (frame([["a", [["x", "<f8"]], [1]]]), "name, type and shape"),
    "words of no length": (frame([["a", "|S0", [1]]]), "are not sent"),
    "less body than values": (frame([["a", "<f8", [4]]], b"8" * 8), "do not fill its body"),
    "more body than values": (frame([["a", "<f8", [1]]], b"8" * 16), "do not fill its body"),
    "a negative size": (frame([["a", "<f8", [-1, -1]]], b"8" * 8), "up to 4 sizes"),
    "a size that is true": (frame([["a", "|b1", [True]]], b"\1"), "up to 4 sizes"),
    "five sizes": (frame([["a", "|b1", [1] * 5]], b"\1"), "up to 4 sizes"),
    "no values, and sizes without end": (
        frame([["a", "<f8", [0, *[2**31 - 1] * 3]]]),
        "2^31 values",
    ),
    "a name twice": (frame([["a", "|b1", [1]]] * 2, b"\1\1"), "named twice"),
    "seventeen arrays": (frame([[f"a{n}", "|b1", [0]] for n in range(17)]), "at most 16"),
    "an end in the middle": (frame([["a", "<f8", [4]]], b"8" * 32)[:-5], "closed the channel"),
    "nothing": (b"", "closed the channel"),
}


@pytest.mark.parametrize("name", NO_MESSAGES)
def test_what_is_no_message_is_refused(name: str) -> None:
    sent, said = NO_MESSAGES[name]
    with pytest.raises((BadInput, ChannelClosed), match=r".*") as caught:
        received(sent)
    assert said in str(caught.value)


def test_a_message_arrives() -> None:
    message = received(frame([["a", "<f8", [2, 1]]], np.array([0.25, 0.5]).tobytes()))
    assert message.kind == "probs" and message.arrays["a"].tolist() == [[0.25], [0.5]]


@given(st.binary(max_size=300), st.integers(0, 40), st.booleans())
def test_no_bytes_raise_anything_else(noise: bytes, at: int, framed: bool) -> None:
    whole = frame([["a", "<f8", [2]]], b"8" * 16)
    sent = whole[:at] + noise + whole[at + len(noise) :] if framed else noise
    with contextlib.suppress(BadInput, ChannelClosed):
        received(sent)


# ---------------------------------------------------------------- the judge and a scripted peer
def settled(held: Holding, peer: Peer) -> Hearing:
    """What a judge says of a peer that gets its end of the channel."""
    ours, theirs = socket.socketpair()
    hearing = Hearing(
        Judge(held, Pair(held.labels.seeds[0], 3, "none"), Channel(ours, MAX_MESSAGE))
    )
    thread = threading.Thread(target=hearing.work)
    thread.start()
    try:
        peer(Channel(theirs, 2**31), theirs)
    except ChannelClosed:
        pass
    finally:
        theirs.close()
        thread.join(60)
    assert not thread.is_alive()
    assert hearing._over_at is not None, "the sandbox would not be ended"
    return hearing


def asks(kind: str, times: int, **facts: object) -> Peer:
    def peer(channel: Channel, _: socket.socket) -> None:
        channel.receive()
        for _ in range(times):
            channel.send(kind, facts)
            channel.receive()

    return peer


def sends(*kinds: str, **arrays: np.ndarray) -> Peer:
    def peer(channel: Channel, _: socket.socket) -> None:
        channel.receive()
        for kind in kinds:
            channel.send(kind, None, **arrays)
        while True:  # until the judge closes
            channel.receive()

    return peer


def writes(sent: bytes) -> Peer:
    def peer(channel: Channel, end: socket.socket) -> None:
        channel.receive()
        end.sendall(sent)
        channel.receive()

    return peer


def answers(change: Callable[[np.ndarray], np.ndarray]) -> Peer:
    def peer(channel: Channel, _: socket.socket) -> None:
        channel.receive()
        channel.send("fitted")
        while (message := channel.receive()).kind == "predict":
            channel.send("probs", probs=change(np.full(len(message.arrays["ids"]), 0.5)))

    return peer


JUDGED = {
    "states again and again": (
        asks("states", 100, delivery=0, layer=STRONG),
        f"the same states more than {MAX_ASKED} times",
    ),
    "log-likelihoods again and again": (
        asks("logp", 100, delivery=0),
        f"the same logp more than {MAX_ASKED} times",
    ),
    "equality again and again": (
        asks("equality", 100),
        f"the same equality more than {MAX_ASKED} times",
    ),
    "a layer that there is not": (asks("states", 1, delivery=0, layer=99), "a layer that there is"),
    "a layer that is text": (asks("states", 1, delivery=0, layer="1"), "a layer that there is not"),
    "a delivery to come": (asks("states", 1, delivery=1, layer=STRONG), "no open delivery"),
    "a delivery below none": (asks("states", 1, delivery=-1, layer=STRONG), "no open delivery"),
    "a delivery that is infinite": (asks("logp", 1, delivery=1e999), "Infinity is not a number"),
    "labels": (asks("labels", 1), "sent 'labels' where 'fitted' was due"),
    "another ablation": (asks("task", 1, ablation="none"), "sent 'task' where 'fitted' was due"),
    "a kind that drives a terminal": (asks("\x1b[31m", 1), "sent '\\x1b[31m' where"),
    "fitted twice": (sends("fitted", "fitted"), "sent 'fitted' where 'probs' was due"),
    "answers before it is asked": (
        sends("probs", probs=np.zeros(4)),
        "sent 'probs' where 'fitted' was due",
    ),
    "too few answers": (answers(lambda p: p[:-1]), "predictions for"),
    "answers of another type": (answers(lambda p: p > 0), "predictions for"),
    "answers that are no number": (answers(lambda p: p * np.nan), "not probabilities"),
    "answers beyond 1": (answers(lambda p: p + 1), "not probabilities"),
    "answers without name": (sends("fitted", "probs"), "predictions for"),
    "a long message of failure": (
        asks("failed", 1, message="\x1b[2J" * 5000),
        "\x1b[2J",
    ),
    "no message": (writes(raw(b"{{{{")), "not JSON"),
    "an empty array without end": (
        writes(frame([["probs", "<f8", [0, *[2**31 - 1] * 3]]])),
        "2^31 values",
    ),
}


@pytest.mark.parametrize("name", JUDGED)
def test_the_judge_settles_the_run_and_says_why(held: Holding, name: str) -> None:
    peer, said = JUDGED[name]
    hearing = settled(held, peer)
    assert hearing.seen is None and said in str(hearing.error)
    assert len(str(hearing.error)) <= 4000
    assert not any(row.id in str(hearing.error) for row in held.rows), "ids are hidden"


def test_an_honest_peer_is_heard(held: Holding) -> None:
    hearing = settled(held, answers(lambda p: p))
    assert hearing.error is None and hearing.seen.probs_N.tolist() == [0.5] * len(held.rows)


def test_an_error_of_the_judge_itself_ends_the_run(
    held: Holding, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(*_: object) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(Judge, "_serve", breaks)
    with caplog.at_level(logging.ERROR, "aarlab.verify"):
        hearing = settled(held, asks("logp", 1, delivery=0))
    assert str(hearing.error) == "the judge of this run failed (ZeroDivisionError)"
    assert "a fault" in caplog.text


# ---------------------------------------------------------------- from inside a sandbox
INSIDE = """
import json, os, socket, struct, sys, threading, time
import numpy as np
from aarlab.testbed.methods import METHODS

def frame(kind, **facts):
    header = json.dumps({"kind": kind, "facts": facts, "arrays": []}).encode()
    return struct.pack("<II", len(header), 0) + header

def fit(task, student, seed):
    end, layer = socket.socket(fileno=os.dup(int(sys.argv[1]))), student.layer
    honest = METHODS["vanilla"].fit(task, student, seed)
    ATTACK
    return honest
"""
FAILS = {
    "shuts the channel down and sleeps": (
        "end.shutdown(socket.SHUT_RDWR); time.sleep(900)",
        "closed the channel to the verifier, and went on",
    ),
    "asks, reads nothing and ends, its own end in flight": (
        "[end.send(frame('states', delivery=0, layer=layer)) for _ in range(6)];"
        " socket.send_fds(end, [b'x'], [end.fileno(), int(sys.argv[1])]); os._exit(3)",
        "exit code 3",
    ),
    "ends with half a message": ("end.send(b'\\x10\\0'); os._exit(4)", "exit code 4"),
    "sends a byte and sleeps": ("end.send(b'\\x10'); time.sleep(900)", "the wall limit"),
    "closes its descriptors and sleeps": (
        "end.close(); os.close(int(sys.argv[1])); time.sleep(900)",
        "the wall limit",
    ),
    "never reads what it asked for": (
        "[end.send(frame('states', delivery=0, layer=layer)) for _ in range(6)]; time.sleep(900)",
        "the wall limit",
    ),
    "two processes ask at once": (
        "os.fork()\n    while True: end.send(frame('logp', delivery=0)); end.recv(65536)",
        "",
    ),
}
GOES_ON = {
    "a child keeps the descriptor": "os.fork() or time.sleep(900)",
    "threads ask at once": (
        "rows = task.inputs\n"
        "    jobs = [threading.Thread(target=student.states, args=[rows]) for _ in range(8)]\n"
        "    [job.start() for job in jobs]; [job.join() for job in jobs]"
    ),
    "descriptors in flight": (
        "socket.send_fds(end, [frame('logp', delivery=0)], [0, 1, 2])\n"
        "    sizes = struct.unpack('<II', end.recv(8, socket.MSG_WAITALL))\n"
        "    end.recv(sum(sizes), socket.MSG_WAITALL)"
    ),
}


def verified(toy: DataRoot, place: Path, attack: str) -> VerificationResult:
    source = INSIDE.replace("ATTACK", attack)
    run = verified_run.wanted("gauss", [3])
    return verified_run.verified(toy, place / "run", {"method.py": source}, run)


def narrow_pair() -> tuple[socket.socket, socket.socket]:
    """A channel that the answers on a large task would fill."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return ours, theirs


# These wait for a wall limit, as "sends a byte and sleeps" does.
WAIT = ("closes its descriptors and sleeps", "never reads what it asked for")
EACH = [pytest.param(one, marks=pytest.mark.gate if one in WAIT else ()) for one in FAILS]


@pytest.mark.parametrize("name", EACH)
def test_an_attack_from_inside_is_settled_as_failed(
    toy: DataRoot, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack, said = FAILS[name]
    if "wall" in said:
        monkeypatch.setattr(rerun, "WALL_S", 8.0)
    monkeypatch.setattr(judge, "channel_pair", narrow_pair)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = verified(toy, tmp_path, attack)
    assert result.error and said in result.error and result.runs == []
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
    assert grown_kb < 100_000


@pytest.mark.parametrize("name", GOES_ON)
def test_what_does_no_harm_is_no_fault(toy: DataRoot, tmp_path: Path, name: str) -> None:
    result = verified(toy, tmp_path, GOES_ON[name])
    assert result.error == "" and len(result.runs) == 1
