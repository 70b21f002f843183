"""Who gets the device next, by a clock that the test moves."""

import threading
from collections.abc import Callable

import pytest

from aarlab.students import queue as module
from aarlab.students.queue import RAISE_S, WINDOW_S, ClientGone, DeviceQueue


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """Calls that hold the device until they are told to leave it, each in a thread of its own."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.queue = DeviceQueue(self.clock)
        self.order: list[str] = []
        self._threads: list[threading.Thread] = []

    def holds(self, name: str, kind: str, seconds: float) -> None:
        """One call that has the device for some seconds, at once."""
        with self.queue.turn(name, kind, lambda: True):
            self.clock.now += seconds

    def waits(self, name: str, kind: str, alive: Callable[[], bool] = lambda: True) -> None:
        def call() -> None:
            try:
                with self.queue.turn(name, kind, alive):
                    self.order.append(name)
            except ClientGone:
                self.order.append(f"{name} gone")

        before = len(self.queue.look()[1])
        thread = threading.Thread(target=call)
        thread.start()
        self._threads.append(thread)
        self.until(lambda: len(self.queue.look()[1]) == before + 1)

    def until(self, done: Callable[[], bool]) -> None:
        waiting = threading.Event()
        for _ in range(3000):
            if done():
                return
            waiting.wait(0.01)
        raise AssertionError("it did not come to that")

    def join(self) -> list[str]:
        for thread in self._threads:
            thread.join(30)
        return self.order


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_class_then_device_seconds_then_age(bench: Bench) -> None:
    bench.holds("much", "foreground", 50.0)
    bench.holds("little", "foreground", 5.0)
    with bench.queue.turn("first", "foreground", lambda: True):
        for name, kind in (
            ("verifier", "verification"), ("back", "background"), ("much", "foreground"),
            ("little", "foreground"), ("none", "foreground"), ("later", "foreground"),
        ):  # fmt: skip
            bench.waits(name, kind)
            bench.clock.now += 1.0
        assert bench.queue.look()[0] == "first"
    assert bench.join() == ["none", "later", "little", "much", "back", "verifier"]


def test_device_seconds_count_for_six_hours(bench: Bench) -> None:
    bench.holds("long ago", "foreground", 50.0)
    bench.clock.now += WINDOW_S + 61
    bench.holds("now", "foreground", 5.0)
    with bench.queue.turn("first", "foreground", lambda: True):
        bench.waits("now", "foreground")
        bench.waits("long ago", "foreground")
    assert bench.join() == ["long ago", "now"]
    assert bench.queue.used_s("long ago") >= 50


def test_waiting_raises_the_class(bench: Bench) -> None:
    bench.holds("verifier", "verification", 1.0)
    with bench.queue.turn("first", "foreground", lambda: True):
        bench.waits("verifier", "verification")
        bench.clock.now += 2 * RAISE_S
        bench.waits("back", "background")
        bench.waits("fore", "foreground")
    assert bench.join() == ["fore", "verifier", "back"]


def test_waiting_is_not_device_time(bench: Bench) -> None:
    with bench.queue.turn("first", "foreground", lambda: True):
        bench.waits("second", "foreground")
        bench.clock.now += 100.0
    bench.join()
    assert bench.queue.used_s("first") == 100 and bench.queue.used_s("second") == 0


def test_a_long_call_gives_way_to_who_is_ahead_and_goes_on(bench: Bench) -> None:
    with bench.queue.turn("long", "foreground", lambda: True) as turn:
        bench.waits("other", "foreground")
        bench.queue.breathe()
        assert bench.order == [], "its slice is not over"
        bench.clock.now += 10.0
        bench.queue.breathe()
        assert bench.order == ["other"] and bench.queue.look() == ("long", [])
        bench.clock.now += 5.0
    assert turn.device_s == 15 and bench.queue.used_s("long") == 15
    bench.join()


def test_a_long_call_goes_on_before_a_weaker_class_and_heavier_users(bench: Bench) -> None:
    bench.holds("heavy", "foreground", 100.0)
    with bench.queue.turn("long", "foreground", lambda: True):
        bench.waits("heavy", "foreground")
        bench.waits("verifier", "verification")
        bench.clock.now += 10.0
        bench.queue.breathe()
        assert bench.order == []
    assert bench.join() == ["heavy", "verifier"]


def test_a_class_that_waiting_gave_is_kept_for_the_call(bench: Bench) -> None:
    with bench.queue.turn("first", "foreground", lambda: True):
        thread = threading.Thread(target=lambda: verify(bench))
        thread.start()
        bench.until(lambda: bench.queue.look()[1] == ["verifier"])
        bench.clock.now += 2 * RAISE_S
    bench.until(lambda: "verifier" in bench.order)
    thread.join(30)
    bench.join()
    assert bench.order == ["verifier", "verifier done", "first"]


def verify(bench: Bench) -> None:
    """A verification that has the device while a heavy foreground call begins to wait."""
    with bench.queue.turn("verifier", "verification", lambda: True):
        bench.order.append("verifier")
        bench.waits("first", "foreground")
        bench.clock.now += 1.0
        bench.queue.breathe()
        bench.order.append("verifier done")


def test_a_dead_client_leaves_the_line_and_the_device(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    alive = True
    with bench.queue.turn("first", "foreground", lambda: True):
        bench.waits("dead", "foreground", lambda: alive)
        alive = False
        assert bench.join() == ["dead gone"]
    with pytest.raises(ClientGone), bench.queue.turn("late", "foreground", lambda: False):
        bench.clock.now += 1.0
        bench.queue.breathe()
    assert bench.queue.look() == (None, []) and bench.queue.used_s("late") == 1


def test_breathing_without_the_device_does_nothing(bench: Bench) -> None:
    bench.queue.breathe()
    assert bench.queue.look() == (None, [])
