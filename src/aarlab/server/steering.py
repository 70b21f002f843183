"""What the operator wants of each AAR, kept in memory, and the long polls that wait for a change.

A control made through this server wakes them at once. One made through another server of the same
database is seen by the question that each server asks every LOOK_S, whatever the number of polls.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from aarlab.core.errors import Unavailable
from aarlab.core.wire import Wanted
from aarlab.store import controls
from aarlab.store.database import Database

LOOK_S = 1.0


class Steering:
    """`run` is a task of the server. `ending` says that it shuts down: open polls are answered."""

    def __init__(self, database: Database, longest_wait_s: float) -> None:
        self._database, self._longest_wait_s = database, longest_wait_s
        self._wanted: dict[str, Wanted] = {}
        self._seq = -1
        self._polls: defaultdict[str, set[asyncio.Event]] = defaultdict(set)  # by AAR
        self.ending: Callable[[], bool] = lambda: False

    async def run(self) -> None:
        while True:
            with suppress(Unavailable):  # an outage, which is logged where it was found
                await self.refresh()
            if self.ending():
                self.wake()
            await asyncio.sleep(LOOK_S)

    async def refresh(self) -> None:
        """Read what is wanted, if there are new controls, and wake the polls."""
        async with self._database.read() as tx:
            newest = await controls.newest(tx)
            if newest == self._seq:
                return
            wanted = await controls.wanted(tx)
        if newest > self._seq:
            self._seq, self._wanted = newest, wanted
            self.wake()

    def wake(self, name: str | None = None) -> None:
        """Let the polls of an AAR look again, or all."""
        for polls in self._polls.values() if name is None else [self._polls.get(name, set())]:
            for poll in polls:
                poll.set()

    def of(self, names: Iterable[str]) -> dict[str, Wanted]:
        """Return what is wanted of each AAR."""
        of_all = self._wanted.get("", "run")
        return {name: self._wanted.get(name, of_all) for name in names}

    async def wait(
        self,
        names: Iterable[str],
        known: Mapping[str, Wanted],
        wait_s: float,
        check: Callable[[], bool],
    ) -> dict[str, Wanted]:
        """Return what is wanted once it differs from `known`, after `wait_s`, or at the end.

        `check` is called whenever the polls wake, and ends the wait by returning True.
        """
        if self._seq < 0:
            await self.refresh()
        wait_s = min(wait_s, self._longest_wait_s)
        ends, names, poll = time.monotonic() + wait_s, list(names), asyncio.Event()
        for name in names:
            self._polls[name].add(poll)
        try:
            while True:
                now, left_s = self.of(names), ends - time.monotonic()
                changed = any(now[name] != known.get(name) for name in names)
                if changed or left_s <= 0 or self.ending() or check():
                    return now
                with suppress(TimeoutError):
                    async with asyncio.timeout(left_s):
                        await poll.wait()
                poll.clear()
        finally:
            for name in names:
                self._polls[name].discard(poll)
