"""The time left that a long step shows."""

import io

import pytest

from aarlab.cli import steps
from aarlab.cli.steps import Steps
from aarlab.cli.terminal import Console


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(steps.time, "monotonic", lambda: now[0])
    return now


def test_the_time_left_is_that_of_the_count_at_hand(clock: list[float]) -> None:
    told = Steps(Console(file=io.StringIO()))
    told.advance("model", 0, 2500)
    clock[0] = 100.0
    told.advance("model", 1000, 2500)
    assert told._count == ", 1,000 of 2,500 answers, about 150 s left"
    clock[0] = 250.0
    told.advance("model", 0, 400)
    clock[0] = 260.0
    told.advance("model", 100, 400)
    assert told._count == ", 100 of 400 answers, about 30 s left"


def test_a_pace_of_a_moment_says_nothing_of_the_time_left(clock: list[float]) -> None:
    told = Steps(Console(file=io.StringIO()))
    told.advance("model", 64, 400)
    clock[0] = 0.1
    told.advance("model", 100, 400)
    assert told._count == ", 100 of 400 answers"
