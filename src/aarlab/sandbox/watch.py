"""Looks at a running tree at intervals, says which limit it passed, and ends it.

Covered: cpu time, resident memory and number of processes of the whole tree, disk use of the
workspace.
Not covered: what happens between two looks (0.1 to 1 s): a burst can pass a limit before it is
seen; the kernel's limits per process hold at once. Pages that processes share count once for each.
"""

import contextlib
import os
import select
import signal
import time
from dataclasses import dataclass, field

import psutil

from aarlab.sandbox.spec import MB, Killer, SandboxSpec
from aarlab.sandbox.workspace import disk_bytes

_GONE = (psutil.NoSuchProcess, psutil.AccessDenied)
_KILL_WAIT_S = 5.0
_FIRST_LOOK_S, _SLOWEST_LOOK_S = 0.1, 1.0


@dataclass
class Watch:
    """Call `due()` often; it looks when it is time to, ever less often up to once a second."""

    spec: SandboxSpec
    pid: int
    disk_at_start: int
    _wait_s: float = _FIRST_LOOK_S
    _next_look: float = field(default_factory=lambda: time.monotonic() + _FIRST_LOOK_S)
    _next_disk_look: float = 0.0

    def due(self) -> Killer | None:
        now = time.monotonic()
        if now < self._next_look:
            return None
        self._wait_s = min(self._wait_s * 1.2, _SLOWEST_LOOK_S)
        self._next_look = now + self._wait_s
        return self._tree() or self._disk(now)

    def _tree(self) -> Killer | None:
        cpu_s, resident, n_processes = 0.0, 0, 0
        for process in descendants(self.pid):
            with contextlib.suppress(*_GONE):
                times = process.cpu_times()
                cpu_s += times.user + times.system + times.children_user + times.children_system
                resident += process.memory_info().rss
                n_processes += 1
        limits = self.spec.limits
        if cpu_s > limits.cpu_s:
            return "cpu"
        if resident > limits.memory_mb * MB:
            return "memory"
        # Two are bubblewrap's own; the kernel's count is the exact one where it holds.
        return "processes" if n_processes > limits.processes + 2 else None

    def _disk(self, now: float) -> Killer | None:
        if now < self._next_disk_look:
            return None
        used = disk_bytes(self.spec.workspace)
        # A workspace that is too full already may be tidied up, but not filled further.
        wall = max(self.spec.limits.disk_mb * MB, self.disk_at_start)
        # A look takes at most a twentieth of the time, however many files there are.
        self._next_disk_look = now + 20 * (time.monotonic() - now)
        return "disk" if used > wall else None


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
