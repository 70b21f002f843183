"""Who gets the device next, and who used it for how long.

The order is: class (foreground, background, verification), then device seconds of the last six
hours, then age. Waiting raises the class. Long work calls `breathe` between its steps: there the
device goes to whoever has come to be ahead, and the work waits for its next turn. Waiting is not
device time. There, too, a call ends that has used up its client's device seconds.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, get_args

from aarlab.core.errors import AarlabError, BudgetExhausted

Kind = Literal["foreground", "background", "verification"]
RANK: dict[str, int] = {kind: rank for rank, kind in enumerate(get_args(Kind))}
WINDOW_S = 6 * 3600.0  # device seconds older than this do not count against a client
RAISE_S = 600.0  # of waiting raise a call by one class
MINUTE_S = 60.0
SLICE_S = 0.1  # a turn is not interrupted before
LOOK_S = 1.0  # how often a waiting call looks whether its client is still there


class ClientGone(AarlabError):
    """The client closed its connection while its call waited or ran."""

    code = "client_gone"


@dataclass(slots=True, eq=False)
class Turn:
    """One call on its way to the device and on it. `device_s` grows when it gives the device up."""

    client: str
    rank: int
    asked_at: float
    number: int
    is_alive: Callable[[], bool]
    limit_s: float | None = None  # of the client's device seconds in all
    device_s: float = 0.0
    waited_s: float = 0.0
    started_at: float = 0.0


@dataclass(slots=True)
class _Used:
    """Device seconds of one client: in all, and by the minute for the last hours."""

    total_s: float = 0.0
    recent: deque[list[float]] = field(default_factory=deque)

    def add(self, now: float, seconds: float) -> None:
        self.total_s += seconds
        minute = now // MINUTE_S * MINUTE_S
        if not self.recent or self.recent[-1][0] != minute:
            self.recent.append([minute, 0.0])
        self.recent[-1][1] += seconds

    def recent_s(self, now: float) -> float:
        while self.recent and self.recent[0][0] < now - WINDOW_S:
            self.recent.popleft()
        return sum(seconds for _, seconds in self.recent)


class DeviceQueue:
    """Give one device to one call at a time. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._changed = clock, threading.Condition()
        self._waiting: list[Turn] = []
        self._holder: Turn | None = None
        self._used: dict[str, _Used] = {}
        self._number = 0
        self._mine = threading.local()

    @contextmanager
    def turn(
        self,
        client: str,
        kind: Kind,
        is_alive: Callable[[], bool],
        limit_s: float | None = None,
    ) -> Iterator[Turn]:
        """Hold the device inside the context.

        Raises ClientGone when `is_alive` says no while the call waits.
        """
        with self._changed:
            self._number += 1
            turn = Turn(client, RANK[kind], self._clock(), self._number, is_alive, limit_s)
            self._join(turn)
        self._mine.turn = turn
        try:
            yield turn
        finally:
            self._mine.turn = None
            with self._changed:
                if self._holder is turn:  # else it was lost in `breathe`
                    self._leave(turn)

    def breathe(self) -> None:
        """Let a call that is ahead have the device; returns when this thread's call has it again.

        Does nothing in a thread that holds no device. Raises ClientGone, and BudgetExhausted when
        the client's device seconds are used up.
        """
        turn: Turn | None = getattr(self._mine, "turn", None)
        if turn is None:
            return
        with self._changed:
            now = self._clock()
            if now - turn.started_at < SLICE_S:
                return
            if not turn.is_alive():
                raise ClientGone(f"{turn.client} closed its connection")
            self._book(turn, now)
            if turn.limit_s is not None and self._used[turn.client].total_s >= turn.limit_s:
                raise BudgetExhausted(used_up(turn.client, turn.limit_s))
            if self._waiting and self._place(self._next(now), now) < self._place(turn, now):
                self._leave(turn)
                turn.asked_at = self._clock()
                self._join(turn)

    def used_s(self, client: str) -> float:
        """Return the device seconds of a client so far; those of a call in its present step not."""
        with self._changed:
            used = self._used.get(client)
            return 0.0 if used is None else used.total_s

    def wait_calm(self, client: str, at_most_s: float) -> None:
        """Return once no other client has the device, or after `at_most_s`."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._holder is None or self._holder.client == client, at_most_s
            )

    def look(self) -> tuple[str | None, list[str]]:
        """Return the client that has the device, and those that wait for it, the next one first."""
        with self._changed:
            now = self._clock()
            waiting = sorted(self._waiting, key=lambda turn: self._place(turn, now))
            holder = None if self._holder is None else self._holder.client
            return holder, [turn.client for turn in waiting]

    def _join(self, turn: Turn) -> None:
        """Wait until the device is this turn's."""
        self._waiting.append(turn)
        self._pass_on()
        while self._holder is not turn:
            self._changed.wait(LOOK_S)
            if self._holder is not turn and not turn.is_alive():
                self._waiting.remove(turn)
                raise ClientGone(f"{turn.client} closed its connection")

    def _leave(self, turn: Turn) -> None:
        self._book(turn, self._clock())
        self._holder = None
        self._pass_on()
        self._changed.notify_all()

    def _pass_on(self) -> None:
        if self._holder is None and self._waiting:
            now = self._clock()
            turn = self._next(now)
            self._waiting.remove(turn)
            turn.rank = self._place(turn, now)[0]  # it keeps the class that waiting gave it
            turn.waited_s += now - turn.asked_at
            turn.started_at, self._holder = now, turn
            self._changed.notify_all()

    def _book(self, turn: Turn, now: float) -> None:
        seconds = now - turn.started_at
        turn.device_s += seconds
        turn.started_at = now
        self._used.setdefault(turn.client, _Used()).add(now, seconds)

    def _next(self, now: float) -> Turn:
        return min(self._waiting, key=lambda turn: self._place(turn, now))

    def _place(self, turn: Turn, now: float) -> tuple[int, float, float, int]:
        """Return what orders turns; the smallest is next."""
        waited_s = 0.0 if turn is self._holder else now - turn.asked_at
        rank = max(0, turn.rank - int(waited_s // RAISE_S))
        used = self._used.get(turn.client)
        return rank, 0.0 if used is None else used.recent_s(now), turn.asked_at, turn.number


def used_up(client: str, limit_s: float) -> str:
    return f"the {limit_s:g} device seconds of {client} are used up"
