"""Rates per AAR (token buckets) and the cheap clock behind research time.

A flood wall of one process: with N servers on a database an AAR has N buckets.
"""

import time
from collections.abc import Callable

from aarlab.core.errors import TooManyRequests

TOUCH_EVERY_S = 1.0


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
            raise TooManyRequests(
                f"over {self._per_s:g} {self._what} a second: wait {wait_s:.1f} s, try again",
                wait_s,
            )
        self._buckets[name] = (left - 1, now)

    def touch_due(self, name: str) -> bool:
        """True at most once a second per AAR: time to extend its session in the database."""
        now = self._clock()
        if now - self._touched.get(name, -TOUCH_EVERY_S) < TOUCH_EVERY_S:
            return False
        self._touched[name] = now
        return True
