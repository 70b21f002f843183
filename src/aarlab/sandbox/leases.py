"""Leases of devices among the processes of one machine, without a daemon.

Order is in an SQLite file, truth in locks of the kernel: whoever has the lock on a device's file
has the device, and a killed holder frees it at once. A turn in the file counts as long as the lock
on its own file is held.

The order is that of the student server's queue (students.queue): class, then device seconds of the
last six hours, then age; waiting raises the class. A stronger class asks the youngest weaker holder
back once that one has had the device for GRACE_S: it gets SIGTERM, and SIGKILL after NOTICE_S.

The locks on devices are those of student servers too, so that a device has a server or a holder.
Holders of parts of a card share the lock on the card.

Covered: SIGKILL of waiters and holders at any line. What a killed holder had is booked up to its
last sign of life, at most BEAT_S earlier. The folder must be on a disk of the machine.
"""

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aarlab.core.device_lock import DeviceLock, locked, own_folder
from aarlab.core.errors import AarlabError, BadInput
from aarlab.sandbox.devices import Device

RANKS = ("foreground", "background", "verification")
WINDOW_S, RAISE_S = 6 * 3600.0, 600.0
GRACE_S, NOTICE_S = 15 * 60.0, 60.0
BEAT_S, LOOK_S = 1.0, 0.1
TABLES = """
CREATE TABLE IF NOT EXISTS turns (
  id INTEGER PRIMARY KEY AUTOINCREMENT, client TEXT NOT NULL, rank INTEGER NOT NULL,
  devices TEXT NOT NULL, asked REAL NOT NULL, device TEXT, began REAL, seen REAL,
  back INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS used (client TEXT NOT NULL, ended REAL NOT NULL, seconds REAL NOT NULL);
"""


class WaitEnded(AarlabError):
    """A wait for a device ended before its turn came."""

    code = "wait_ended"


@dataclass
class Lease:
    """One device, held until the end of the context that gave it."""

    device: Device
    began: float
    asked_back: threading.Event = field(default_factory=threading.Event)
    asked_at: float | None = None
    ended: float | None = None

    @property
    def seconds(self) -> float:
        """Return how long the device was held so far."""
        return (time.time() if self.ended is None else self.ended) - self.began

    def overdue(self) -> bool:
        """Return whether the device was asked back so long ago that it is taken."""
        return self.asked_at is not None and time.monotonic() - self.asked_at > NOTICE_S


@dataclass(frozen=True)
class Leases:
    """The leases of a machine. `folder` is that of the locks on devices, of this user alone."""

    folder: Path
    grace_s: float = GRACE_S

    @contextlib.contextmanager
    def lease(
        self, client: str, kind: str, devices: Sequence[Device], over: Callable[[], bool]
    ) -> Iterator[Lease]:
        """Hold one of these devices inside the context.

        Raises WaitEnded when `over` says so while it waits, BadInput without a device or a folder
        of this user alone.
        """
        if not devices:
            raise BadInput("there is no device on this machine that a sandbox may use")
        own_folder(self.folder)
        (self.folder / "leases").mkdir(mode=0o700, exist_ok=True)
        turn, mark = self._joined(client, RANKS.index(kind), devices)
        locks: list[DeviceLock] = []
        lease: Lease | None = None
        try:
            while lease is None:
                if over():
                    raise WaitEnded("the wait for a device was ended")
                lease = self._next(turn, client, devices, locks)
                if lease is None:
                    time.sleep(LOOK_S)
            with self._beating(turn, lease):
                yield lease
        finally:
            with self._changing() as tx:
                if lease is not None:
                    lease.ended = time.time()
                    _book(tx, client, lease.ended, lease.seconds)
                tx.execute("DELETE FROM turns WHERE id = ?", (turn,))
                self._mark(turn).unlink(missing_ok=True)
            for lock in locks:
                lock.give()
            os.close(mark)

    def used_s(self, client: str) -> float:
        """Return the device seconds of a client of the last six hours."""
        with self._changing() as tx:
            self._reap(tx, None)
            return _used(tx, client, time.time())

    # ------------------------------------------------------------ turns
    def _joined(self, client: str, rank: int, devices: Sequence[Device]) -> tuple[int, int]:
        """Add a turn; return its number and the lock that says that it lives."""
        with self._changing() as tx:
            row = (client, rank, json.dumps([device.name for device in devices]), time.time())
            made = tx.execute(
                "INSERT INTO turns (client, rank, devices, asked) VALUES (?, ?, ?, ?)", row
            )
            assert made.lastrowid is not None
            mark = locked(self._mark(made.lastrowid))
            assert mark is not None
            return made.lastrowid, mark

    def _next(
        self, turn: int, client: str, devices: Sequence[Device], locks: list[DeviceLock]
    ) -> Lease | None:
        """Take a free device if nobody who wants one of these is ahead."""
        with self._changing() as tx:
            self._reap(tx, turn)
            now = time.time()
            rows = tx.execute("SELECT * FROM turns WHERE device IS NULL").fetchall()
            names = {device.name for device in devices}
            wants = [row for row in rows if names.intersection(json.loads(row["devices"]))]
            first = min(wants, key=lambda row: _place(tx, row, now))
            if first["id"] != turn:
                return None
            for device in devices:
                taken = self._taken(device, client)
                if taken is None:
                    continue
                locks += taken
                changed = "UPDATE turns SET device = ?, began = ?, seen = ? WHERE id = ?"
                tx.execute(changed, (device.name, now, now, turn))
                return Lease(device, now)
            self._ask_back(tx, _place(tx, first, now)[0], names, now)
            return None

    def _ask_back(self, tx: sqlite3.Connection, rank: int, names: Set[str], now: float) -> None:
        """Ask the youngest holder of a weaker class back, unless one is asked already."""
        rows = tx.execute("SELECT * FROM turns WHERE device IS NOT NULL").fetchall()
        held = [row for row in rows if row["device"] in names]
        weaker = [r for r in held if r["rank"] > rank and now - r["began"] >= self.grace_s]
        if weaker and not any(row["back"] for row in held):
            youngest = max(weaker, key=lambda row: (row["began"], row["id"]))
            tx.execute("UPDATE turns SET back = 1 WHERE id = ?", (youngest["id"],))

    @contextlib.contextmanager
    def _beating(self, turn: int, lease: Lease) -> Iterator[None]:
        """Give signs of life, and see whether the device is asked back."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT_S):
                with self._changing() as tx:
                    tx.execute("UPDATE turns SET seen = ? WHERE id = ?", (time.time(), turn))
                    row = tx.execute("SELECT back FROM turns WHERE id = ?", (turn,)).fetchone()
                if row is not None and row["back"] and lease.asked_at is None:
                    lease.asked_at = time.monotonic()
                    lease.asked_back.set()

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _reap(self, tx: sqlite3.Connection, mine: int | None) -> None:
        """Remove the turns of dead processes, and book what they held."""
        for row in tx.execute("SELECT * FROM turns WHERE id IS NOT ?", (mine,)).fetchall():
            mark = self._mark(row["id"])
            handle = locked(mark) if mark.exists() else -1
            if handle is None:
                continue
            if row["device"] is not None:
                _book(tx, row["client"], row["seen"], row["seen"] - row["began"])
            tx.execute("DELETE FROM turns WHERE id = ?", (row["id"],))
            mark.unlink(missing_ok=True)
            if handle >= 0:
                os.close(handle)

    # ------------------------------------------------------------ files
    def _taken(self, device: Device, client: str) -> list[DeviceLock] | None:
        """Lock a device, and its card together with other parts of it; None if one is taken."""
        locks = [DeviceLock(self.folder, device.lock)]
        if device.whole is not None:
            locks.append(DeviceLock(self.folder, device.whole, shared=True))
        note = {"pid": os.getpid(), "holder": f"a command of {client}"}
        if all(lock.taken(note) for lock in locks):
            return locks
        for lock in locks:
            lock.give()
        return None

    def _mark(self, turn: int) -> Path:
        return self.folder / "leases" / f"{turn}.turn"

    @contextlib.contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        place = self.folder / "leases" / "order.db"
        tx = sqlite3.connect(place, timeout=60.0, isolation_level=None)
        try:
            tx.row_factory = sqlite3.Row
            tx.executescript(TABLES)
            tx.execute("BEGIN IMMEDIATE")
            try:
                yield tx
            except BaseException:
                tx.execute("ROLLBACK")
                raise
            tx.execute("COMMIT")
        finally:
            tx.close()


def _place(tx: sqlite3.Connection, row: Any, now: float) -> tuple[int, float, float, int]:
    """Return what orders turns; the smallest is next."""
    rank = max(0, row["rank"] - int((now - row["asked"]) // RAISE_S))
    return rank, _used(tx, row["client"], now), row["asked"], row["id"]


def _used(tx: sqlite3.Connection, client: str, now: float) -> float:
    asked = "SELECT TOTAL(seconds) FROM used WHERE client = ? AND ended > ?"
    return float(tx.execute(asked, (client, now - WINDOW_S)).fetchone()[0])


def _book(tx: sqlite3.Connection, client: str, ended: float, seconds: float) -> None:
    tx.execute("DELETE FROM used WHERE ended < ?", (ended - WINDOW_S,))
    tx.execute("INSERT INTO used VALUES (?, ?, ?)", (client, ended, max(seconds, 0.0)))
