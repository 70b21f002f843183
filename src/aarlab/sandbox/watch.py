"""Looks at a running tree at intervals, says which limit it passed, and ends it.

Covered: cpu time, memory (`held`) and number of processes of the whole tree; bytes and entries of
the workspace, files among them that were removed and are still open; entries of the temporary
folders.
Not covered: what happens between two looks (0.1 to 1 s, up to 5 s where a look is long): a burst
can pass a limit before it is seen; the kernel's limits per process, and the size of the temporary
folders, hold at once. Pages that processes share count once for each.
"""

import contextlib
import os
import select
import signal
import time
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType

import psutil

from aarlab.sandbox.held import Temporary, held
from aarlab.sandbox.spec import MB, Killer, SandboxSpec
from aarlab.sandbox.workspace import FULL, DiskUse, disk_use

_GONE = (psutil.NoSuchProcess, psutil.AccessDenied)
_KILL_WAIT_S = 5.0
_FIRST_LOOK_S, _SLOWEST_LOOK_S, _LONGEST_PAUSE_S = 0.1, 1.0, 5.0
_TEMPORARY = ("/tmp", "/dev/shm")
_TRAVEL_LOOKS = 3


@dataclass
class Watch:
    """Call `due()` often; it looks when it is time to, ever less often up to once a second.

    Leave it as a context manager: it holds the sandbox's temporary folders open.
    """

    spec: SandboxSpec
    pid: int
    at_start: DiskUse
    _wait_s: float = _FIRST_LOOK_S
    _next_look: float = field(default_factory=lambda: time.monotonic() + _FIRST_LOOK_S)
    _next_disk_look: float = 0.0
    _temporary: Temporary = field(default_factory=Temporary)
    _travelled: deque[int] = field(default_factory=lambda: deque(maxlen=_TRAVEL_LOOKS))
    _removed: int = 0

    def __enter__(self) -> "Watch":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._temporary.close()

    def due(self) -> Killer | None:
        # Cheap, and at every call: a program makes tens of thousands of entries in 0.1 s.
        if self._temporary.use()[1] > self.spec.limits.entries:
            return "disk"
        now = time.monotonic()
        if now < self._next_look:
            return None
        self._wait_s = min(self._wait_s * 1.2, _SLOWEST_LOOK_S)
        passed = self._tree()
        # A look takes at most a tenth of the time, however much there is to look at.
        pause_s = min(10 * (time.monotonic() - now), _LONGEST_PAUSE_S)
        self._next_look = now + max(self._wait_s, pause_s)
        return passed or self._disk()

    def _tree(self) -> Killer | None:
        cpu_s, pids = 0.0, list[int]()
        for process in descendants(self.pid):
            with contextlib.suppress(*_GONE):
                times = process.cpu_times()
                cpu_s += times.user + times.system + times.children_user + times.children_system
                pids.append(process.pid)
        limits = self.spec.limits
        if self.spec.isolated:
            self._temporary.find(pids, _TEMPORARY)
        now_held = held(pids, self._temporary, limits.file_mb)
        # Honest programs hand descriptors over at once; who parks files there does so at each look.
        self._travelled.append(now_held.travelling)
        parked = min(self._travelled) if len(self._travelled) == _TRAVEL_LOOKS else 0
        self._removed = now_held.removed + parked * limits.file_mb * MB
        if cpu_s > limits.cpu_s:
            return "cpu"
        if now_held.memory > limits.memory_mb * MB:
            return "memory"
        # Two are bubblewrap's own; the kernel's count is the exact one where it holds.
        return "processes" if len(pids) > limits.processes + 2 else None

    def _disk(self) -> Killer | None:
        now, start = time.monotonic(), self.at_start if self.at_start != FULL else DiskUse(0, 0)
        # A workspace that is too full already may be tidied up, but not filled further.
        most = max(self.spec.limits.disk_mb * MB, start.n_bytes)
        if self._removed > most:
            return "disk"
        if now < self._next_disk_look:
            return None
        used = disk_use(self.spec.workspace)
        # A look takes at most a twentieth of the time, however many files there are.
        self._next_disk_look = now + 20 * (time.monotonic() - now)
        too_many = used.n_entries > max(self.spec.limits.entries, start.n_entries)
        too_deep = used.deep and not start.deep
        # What was removed was looked for before: no file counts twice.
        return "disk" if used.n_bytes + self._removed > most or too_many or too_deep else None


def descendants(pid: int) -> list[psutil.Process]:
    """Every process below `pid`, not itself, zombies included."""
    try:
        found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return found


def end_tree(pid: int) -> None:
    """End everything below the reaper `pid`, an unreaped child of this process, and the reaper.

    The reaper is asked first, because it also reaps; if the program has disabled it, this process
    does it: each process is stopped before any is killed, until a round finds none.
    """
    os.kill(pid, signal.SIGTERM)
    if _ends(pid, _KILL_WAIT_S):
        return
    deadline = time.monotonic() + _KILL_WAIT_S
    while time.monotonic() < deadline:
        living = [process for process in descendants(pid) if _lives(process)]
        if not living:
            break
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in living:
                with contextlib.suppress(*_GONE):
                    process.send_signal(number)
        psutil.wait_procs(living, timeout=0.2)
    os.kill(pid, signal.SIGKILL)


def _ends(pid: int, timeout_s: float) -> bool:
    handle = os.pidfd_open(pid)
    try:
        poll = select.poll()  # select.select() fails on descriptors above 1023
        poll.register(handle, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))
    finally:
        os.close(handle)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1)
    except _GONE:
        return False
