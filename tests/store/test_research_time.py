"""Which time counts as research: gaps, restarts, pauses, waiting and clocks that are set."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aarlab.core.research_time import (
    HEARTBEAT_S,
    OWN_GAP_S,
    SUPERVISED_GAP_S,
    Change,
    Stretch,
    alive,
    began,
    switched,
)
from aarlab.core.wire import NewAar
from aarlab.core.wire_service import NewControl, NewWait
from aarlab.store import aars, controls
from aarlab.store.database import Database

BEGIN = datetime(2026, 1, 31, tzinfo=UTC)


@dataclass
class World:
    """An AAR in front of a platform. `shift_s` is how wrong the platform's clock is; `true_s` is
    what the AAR did, by a clock that nobody sets."""

    now_s: float = 0.0
    shift_s: float = 0.0
    stretches: list[Stretch] = field(default_factory=list)
    true_s: dict[str, float] = field(default_factory=lambda: {"research": 0.0, "waiting": 0.0})
    resumed: datetime | None = None
    steps: int = 0
    crashes: int = 0
    long_gaps: int = 0

    @property
    def clock(self) -> datetime:
        return BEGIN + timedelta(seconds=self.now_s + self.shift_s)

    @property
    def last(self) -> Stretch | None:
        return self.stretches[-1] if self.stretches else None

    def take(self, change: Change) -> None:
        if change.last is not None:
            self.stretches[-1] = change.last
        if change.opened is not None:
            self.stretches.append(change.opened)

    def counted(self, kind: str) -> float:
        return sum(
            (s.seen - s.started).total_seconds()
            for s in self.stretches
            if (s.kind == "research") == (kind == "research")
        )

    def live(self, seconds: float, kind: str = "research", supervised: bool = True) -> None:
        """Signs of life, at most one heartbeat apart."""
        end = self.now_s + seconds
        while self.now_s < end:
            self.now_s = min(self.now_s + HEARTBEAT_S, end)
            self.take(alive(self.last, self.clock, supervised, self.resumed))
        self.true_s[kind] += seconds


def play(world: World, event: str, seconds: float) -> None:
    if event == "work":
        world.live(seconds)
    elif event == "crash":  # dies between two heartbeats, comes back later
        world.true_s["research"] += min(seconds, HEARTBEAT_S) * 0.9
        world.now_s += seconds
        world.crashes += 1
        world.stretches.append(began(world.clock))
    elif event == "suspended":  # nothing runs, and no new process begins
        world.now_s += SUPERVISED_GAP_S + seconds
        world.take(alive(world.last, world.clock, True, world.resumed))
    elif event == "paused":
        world.now_s += seconds
        world.resumed = world.clock
        world.take(alive(world.last, world.clock, True, world.resumed))
    elif event == "waits":  # the first failed try took a while, the one that succeeded, too
        world.live(3.0, "waiting")
        world.take(switched(world.last, world.clock, "overload", 3.0))
        world.live(seconds, "waiting")
        world.live(2.0)
        world.take(switched(world.last, world.clock, "research", 2.0))
    elif event == "agent":  # an agent with the token only, while its supervisor is silent
        world.take(alive(world.last, world.clock, False))
    else:
        world.shift_s += seconds if event == "clock forward" else -seconds
        world.steps += 1


EVENTS = (
    "work",
    "crash",
    "suspended",
    "paused",
    "waits",
    "agent",
    "clock forward",
    "clock back",
)
events = st.lists(st.tuples(st.sampled_from(EVENTS), st.floats(0.5, 40_000)), max_size=12)


@given(events)
@settings(max_examples=150, deadline=None)
def test_hours_are_those_that_were_worked(plan) -> None:
    """Never more than was worked, but for one short gap each time that a clock is set; never less,
    but for a heartbeat each time that the process dies."""
    world = World()
    world.stretches.append(began(world.clock))
    for event, seconds in plan:
        play(world, event, min(seconds, 2_000) if event in ("work", "waits") else seconds)
    each = SUPERVISED_GAP_S + 5.0  # per step of the clock
    slack = world.steps * each * 2 + 1e-6
    for kind in ("research", "waiting"):
        counted, true = world.counted(kind), world.true_s[kind]
        assert counted <= true + slack, kind
        assert counted >= true - slack - world.crashes * HEARTBEAT_S, kind
    for before, after in pairwise(world.stretches):
        if world.steps == 0:
            assert before.seen <= after.started, "no second counts twice"


@given(st.lists(st.floats(0.1, 5_000), min_size=1, max_size=15))
def test_a_gap_costs_an_agent_that_joined_by_itself_ten_minutes_at_most(gaps) -> None:
    """Neither asking often nor asking rarely changes what a gap costs."""
    world = World()
    world.take(alive(None, world.clock, False))
    for gap in gaps:
        world.now_s += gap
        world.take(alive(world.last, world.clock, False))
    expected = sum(min(gap, OWN_GAP_S) for gap in gaps)
    assert world.counted("research") == pytest.approx(expected, abs=1e-3)


def test_an_agent_cannot_shorten_what_its_supervisor_vouches_for() -> None:
    world = World()
    world.stretches.append(began(world.clock))
    world.live(100)
    before = list(world.stretches)
    world.now_s += 5
    play(world, "agent", 0)
    assert world.stretches == before
    world.live(10)
    assert world.counted("research") == pytest.approx(115)


# ---------------------------------------------------------------- in the database
@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[datetime]]:
    now = [BEGIN]

    def now_iso() -> str:
        return now[0].isoformat(timespec="microseconds")

    monkeypatch.setattr(aars, "now_iso", now_iso)
    monkeypatch.setattr(controls, "now_iso", now_iso)
    return now


async def test_what_is_down_costs_nothing(database: Database, clock: list[datetime]) -> None:
    """138 seconds without a process; before, the first request afterwards made them research."""

    def later(seconds: float) -> None:
        clock[0] += timedelta(seconds=seconds)

    async with database.write() as tx:
        await aars.add(tx, NewAar(name="a", researcher="language", direction="d"), "hash")
        await aars.open_session(tx, "a")
        for _ in range(4):
            later(15)
            await aars.touch(tx, "a", by_supervisor=True)
        later(138)
        await aars.open_session(tx, "a")
        later(10)
        await aars.touch(tx, "a", by_supervisor=True)
        assert await aars.research_s(tx, "a") == pytest.approx(70)
        # A provider that is overloaded: the failed try counts as waiting from its beginning.
        later(10)
        await aars.touch(tx, "a", by_supervisor=True)
        await aars.wait(tx, "a", NewWait(kind="overload", note="529", ago_s=10))
        later(50)
        await aars.touch(tx, "a", by_supervisor=True)
        (record,) = await aars.records(tx)
        assert (record.research_s, record.waiting_s) == (pytest.approx(70), pytest.approx(60))
        assert record.waiting_for == "overload: 529"
        assert record.waiting_since == (BEGIN + timedelta(seconds=208)).isoformat(
            timespec="microseconds"
        )
        # A pause of the campaign stands still, too, and what was waited for is waited for after it.
        await controls.add(tx, None, NewControl(action="pause", by="Ada"))
        later(500)
        await aars.touch(tx, "a", by_supervisor=True)
        await controls.add(tx, None, NewControl(action="resume", by="Ada"))
        await aars.touch(tx, "a", by_supervisor=True)
        later(40)
        await aars.touch(tx, "a", by_supervisor=True)
        await aars.wait(tx, "a", NewWait(kind="research"))
        later(30)
        await aars.touch(tx, "a", by_supervisor=True)
        (record,) = await aars.records(tx)
        assert (record.research_s, record.waiting_s) == (pytest.approx(100), pytest.approx(100))
        assert record.waiting_for == "" and record.waiting_since is None
        kinds = [s.kind for s in await aars.all_sessions(tx, waits=True)]
        assert kinds == ["research", "research", "overload", "overload", "research"]
        assert {s.kind for s in await aars.all_sessions(tx)} == {"research"}
