"""Leases of devices: one holder at a time, everybody is served, and what is held is booked."""

import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import lease_client
import pytest
from lease_client import card
from platform_kit import wait_for

from aarlab.core.device_lock import DeviceLock
from aarlab.core.errors import BadInput, Conflict
from aarlab.sandbox import leases as module
from aarlab.sandbox.devices import Device
from aarlab.sandbox.leases import BEAT_S, Leases, WaitEnded

DEVICES = [card(0), card(1)]


def notes(folder: Path) -> list[dict]:
    path = folder / "holds.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def client(folder: Path, name: str, kind: str, rounds: int) -> subprocess.Popen[bytes]:
    words = [str(folder), name, kind, json.dumps([0, 1]), str(rounds)]
    return subprocess.Popen([sys.executable, lease_client.__file__, *words])


@pytest.mark.gate
def test_leases_under_random_kills(tmp_path: Path) -> None:
    """Eleven clients on two devices, some killed while they wait or hold, all served."""
    rng, rounds, killed = random.Random(4), 8, 0
    kinds = ["foreground"] * 9 + ["background", "verification"]
    names = [f"aar-{n}-{kind}" for n, kind in enumerate(kinds)]
    running = {n: client(tmp_path, n, k, rounds) for n, k in zip(names, kinds, strict=True)}
    try:
        for _ in range(6):
            seen = len(notes(tmp_path))
            wait_for(lambda seen=seen: len(notes(tmp_path)) >= seen + 6, 120)
            name = rng.choice([n for n, p in running.items() if p.poll() is None])
            running[name].kill()
            running[name].wait()
            killed += 1
            kind = kinds[names.index(name)]
            running[name] = client(tmp_path, name, kind, rounds)
        for process in running.values():
            assert process.wait(300) == 0, "a device with two holders, or nobody served it"
    finally:
        for process in running.values():
            process.kill()
    ended = [one for one in notes(tmp_path) if one["what"] == "ended"]
    last = {one["client"] for one in ended if one["number"] == rounds - 1}
    assert last == set(names)
    leases = Leases(tmp_path / "locks")
    for name in names:
        held = sum(one["seconds"] for one in ended if one["client"] == name)
        # A killed holder is booked up to its last sign of life.
        assert held - 1e-6 <= leases.used_s(name) <= held + killed * (BEAT_S + 0.2)
    with sqlite3.connect(tmp_path / "locks" / "leases" / "order.db") as db:
        assert db.execute("SELECT count(*) FROM turns").fetchone() == (0,)
    db.close()
    assert list((tmp_path / "locks" / "leases").glob("*.turn")) == []


class Waiter:
    """A thread that waits for a lease, and holds it until it is told to give it back."""

    def __init__(self, leases: Leases, name: str, kind: str, devices: list[Device]) -> None:
        self.give, self.over = threading.Event(), threading.Event()
        self.had: list[module.Lease] = []
        self.error: list[Exception] = []
        given = (leases, name, kind, devices)
        self._thread = threading.Thread(target=self._work, args=given)
        self._thread.start()

    def _work(self, leases: Leases, name: str, kind: str, devices: list[Device]) -> None:
        try:
            with leases.lease(name, kind, devices, self.over.is_set) as lease:
                self.had.append(lease)
                self.give.wait()
        except WaitEnded as error:
            self.error.append(error)

    def end(self) -> None:
        self.give.set()
        self.over.set()
        self._thread.join()


@pytest.fixture
def waiter():
    made: list[Waiter] = []

    def begin(*given: object) -> Waiter:
        made.append(Waiter(*given))
        return made[-1]

    yield begin
    for one in made:
        one.end()


def waiting(leases: Leases) -> int:
    with sqlite3.connect(leases.folder / "leases" / "order.db") as db:
        return db.execute("SELECT count(*) FROM turns WHERE device IS NULL").fetchone()[0]


def after(leases: Leases, count: int) -> Callable[[], bool]:
    return lambda: waiting(leases) == count


def test_the_class_decides_then_the_seconds_used(tmp_path: Path, waiter) -> None:
    leases = Leases(tmp_path / "locks")
    first = waiter(leases, "used-more", "foreground", [card(0)])
    wait_for(lambda: bool(first.had), 60)
    time.sleep(0.05)
    names = (("late", "background"), ("used-more", "foreground"), ("fresh", "foreground"))
    made = []
    for number, (name, kind) in enumerate(names, 1):
        made.append(waiter(leases, name, kind, [card(0)]))
        wait_for(after(leases, number), 60)
    late, again, fresh = made
    order = []
    for holder in (first, fresh, again, late):
        wait_for(lambda holder=holder: bool(holder.had), 60)
        order.append([bool(one.had) for one in (fresh, again, late)])
        holder.end()
    assert order == [[False] * 3, [True, False, False], [True, True, False], [True] * 3]


def test_waiting_raises_the_class(tmp_path: Path, waiter, monkeypatch) -> None:
    leases = Leases(tmp_path / "locks")
    first = waiter(leases, "first", "foreground", [card(0)])
    wait_for(lambda: bool(first.had), 60)
    old = waiter(leases, "old", "background", [card(0)])
    wait_for(after(leases, 1), 60)
    with sqlite3.connect(leases.folder / "leases" / "order.db") as db:
        db.execute("UPDATE turns SET asked = asked - ? WHERE client = 'old'", (module.RAISE_S,))
    new = waiter(leases, "new", "foreground", [card(0)])
    wait_for(after(leases, 2), 60)
    first.end()
    wait_for(lambda: bool(old.had), 60)
    assert not new.had


def test_the_youngest_weaker_holder_is_asked_back_after_its_grace(tmp_path: Path, waiter) -> None:
    patient, now = Leases(tmp_path / "locks"), Leases(tmp_path / "locks", grace_s=0.0)
    older = waiter(patient, "older", "background", DEVICES)
    wait_for(lambda: bool(older.had), 60)
    younger = waiter(patient, "younger", "background", DEVICES)
    wait_for(lambda: bool(younger.had), 60)
    equal = waiter(now, "equal", "background", DEVICES)
    wait_for(after(now, 1), 60)
    strong = waiter(patient, "strong", "foreground", DEVICES)
    wait_for(after(now, 2), 60)
    assert not younger.had[0].asked_back.is_set(), "within its grace nobody takes a device"
    strong.end()
    strong = waiter(now, "strong", "foreground", DEVICES)
    assert younger.had[0].asked_back.wait(60)
    assert not older.had[0].asked_back.is_set() and not younger.had[0].overdue()
    younger.end()
    wait_for(lambda: bool(strong.had), 60)
    assert not equal.had


def test_a_wait_that_is_ended_leaves_nothing(tmp_path: Path, waiter) -> None:
    leases = Leases(tmp_path / "locks")
    holder = waiter(leases, "holder", "foreground", [card(0)])
    wait_for(lambda: bool(holder.had), 60)
    other = waiter(leases, "other", "foreground", [card(0)])
    wait_for(after(leases, 1), 60)
    other.end()
    assert other.error and waiting(leases) == 0 and leases.used_s("other") == 0.0


def test_a_device_has_a_student_server_or_a_holder(tmp_path: Path, waiter) -> None:
    leases = Leases(tmp_path / "locks")
    server = DeviceLock(tmp_path / "locks", card(0).lock)
    server.take({"pid": 1})
    holder = waiter(leases, "ada", "foreground", DEVICES)
    wait_for(lambda: bool(holder.had), 60)
    assert holder.had[0].device == card(1), "the server has the first"
    second = waiter(leases, "bea", "foreground", DEVICES)
    wait_for(after(leases, 1), 60)
    server.give()
    wait_for(lambda: bool(second.had), 60)
    assert second.had[0].device == card(0)
    with pytest.raises(Conflict, match=r"a command of bea \(process \d+\) has this device"):
        server.take({"pid": 1})


def part(number: int) -> Device:
    """A MIG instance of the first card."""
    return Device(f"nvidia:0/{number}/0", "nvidia", {}, f"cuda-0/{number}/0", card(0).lock)


def test_parts_of_a_card_are_held_side_by_side(tmp_path: Path, waiter) -> None:
    leases, parts = Leases(tmp_path / "locks"), [part(1), part(2)]
    server = DeviceLock(tmp_path / "locks", card(0).lock)
    server.take({"pid": 1})
    one = waiter(leases, "ada", "foreground", parts)
    wait_for(lambda: bool(list((leases.folder / "leases").glob("*.turn"))), 60)
    time.sleep(0.5)
    assert not one.had, "a student server has the card"
    server.give()
    two = waiter(leases, "bea", "foreground", parts)
    wait_for(lambda: bool(one.had and two.had), 60)
    assert {one.had[0].device.name, two.had[0].device.name} == {each.name for each in parts}
    three = waiter(leases, "cleo", "foreground", parts)
    wait_for(after(leases, 1), 60)
    with pytest.raises(Conflict, match="a command of"):
        server.take({"pid": 1})
    one.end()
    wait_for(lambda: bool(three.had), 60)
    assert three.had[0].device == one.had[0].device
    with pytest.raises(Conflict):
        server.take({"pid": 1})
    two.end()
    three.end()
    server.take({"pid": 1})
    server.give()


def test_what_cannot_be_leased(tmp_path: Path) -> None:
    with (
        pytest.raises(BadInput, match="no device on this machine"),
        Leases(tmp_path / "locks").lease("ada", "foreground", [], lambda: False),
    ):
        raise AssertionError
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with (
        pytest.raises(BadInput, match="AARLAB_DEVICE_LOCKS"),
        Leases(tmp_path / "open").lease("ada", "foreground", [card(0)], lambda: False),
    ):
        raise AssertionError
