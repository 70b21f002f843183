"""Rates per AAR (token buckets) and the cheap clock behind research time.

Servers of one PostgreSQL share a bucket there, from which each takes some tokens at a time; an
SQLite file has one server, which counts in its memory.
"""

import time
from collections.abc import Callable

from aarlab.core.errors import TooManyRequests
from aarlab.store import paces
from aarlab.store.database import Database

TOUCH_EVERY_S = 1.0
LEASES = 20  # parts of a burst: what a server takes at once


class Pace:
    def __init__(
        self,
        per_s: float,
        burst: int,
        what: str = "requests",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_s, self._burst, self._what, self._clock = per_s, burst, what, clock
        self._buckets: dict[str, tuple[float, float]] = {}
        self._touched: dict[str, float] = {}

    def admit(self, name: str) -> None:
        """Raise TooManyRequests when an AAR is over its rate."""
        now = self._clock()
        left, at = self._buckets.get(name, (float(self._burst), now))
        left = min(left + (now - at) * self._per_s, float(self._burst))
        if left < 1:
            self._buckets[name] = (left, now)
            wait_s = (1 - left) / self._per_s
            raise too_many(self._per_s, self._what, wait_s)
        self._buckets[name] = (left - 1, now)

    def touch_due(self, name: str) -> bool:
        """True at most once a second per AAR: time to extend its session in the database."""
        now = self._clock()
        if now - self._touched.get(name, -TOUCH_EVERY_S) < TOUCH_EVERY_S:
            return False
        self._touched[name] = now
        return True


class SharedPace:
    """A rate over all servers of a database."""

    def __init__(self, database: Database, rate: paces.Rate) -> None:
        self._database, self._rate = database, rate
        self._alone = Pace(rate.per_s, rate.burst, rate.what)
        self._held: dict[str, int] = {}
        self._refused_until: dict[str, float] = {}

    async def admit(self, name: str) -> None:
        """Raise TooManyRequests when an AAR is over its rate; a flood asks the database rarely."""
        if not self._database.shared:
            self._alone.admit(name)
            return
        if self._held.get(name, 0) < 1:
            await self._take(name)
        self._held[name] = self._held.get(name, 0) - 1

    async def _take(self, name: str) -> None:
        rate, now = self._rate, time.monotonic()
        wait_s = self._refused_until.get(name, now) - now
        if wait_s <= 0:
            async with self._database.brief() as tx:
                most = max(rate.burst // LEASES, 1)
                taken, wait_s = await paces.take(tx, rate, name, most)
            self._held[name] = self._held.get(name, 0) + taken
            self._refused_until[name] = time.monotonic() + wait_s
        if wait_s > 0:
            raise too_many(rate.per_s, rate.what, wait_s)


def too_many(per_s: float, what: str, wait_s: float) -> TooManyRequests:
    said = f"over {per_s:g} {what} a second: wait {wait_s:.1f} s, try again"
    return TooManyRequests(said, wait_s)
