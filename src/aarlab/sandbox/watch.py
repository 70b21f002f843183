"""A watch on a running tree: looks at intervals, says which limit it passed, and ends it.

Besides files, a tree of processes holds memory and files without a name. Both are read from /proc,
so that an ordinary user needs no control group. `Temporary` also sees what no process holds open:
the whole of a sandbox's own /tmp and /dev/shm.

Covered: cpu time, memory (`held`) and number of processes of the whole tree. Bytes and entries of
the workspace, files among them that were removed and are still open; entries of the temporary
folders. Resident, swapped and huge pages, page tables. Memfd, shared anonymous and SysV memory,
mapped or only open. Removed files that are open or mapped. Buffers of pipes and sockets, as many as
they can be. Descriptors on their way through a socket, as files of the largest size.
Not covered: what happens between two looks (0.1 to 1 s, up to 5 s where a look is long): a burst
can pass a limit before it is seen. The kernel's limits per process, and the size of the temporary
folders, hold at once. Pages that processes share count once for each. A process that hides its
descriptors from this user (one started from a program that the user may run and not read). Small
objects in the kernel (byte-range locks, timers, watches of epoll). Shared anonymous memory of which
only a small window is mapped, where this process is not root: the system call filter forbids to
make any.
"""

import contextlib
import os
import re
import select
import signal
import stat
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple

import psutil

from aarlab.sandbox.spec import MB, Killer, SandboxSpec
from aarlab.sandbox.workspace import FULL, DiskUse, disk_use

_KB_FIELDS = re.compile(
    rb"^(RssAnon|RssFile|RssShmem|VmSwap|VmPTE|HugetlbPages):\s*(\d+) kB$", re.MULTILINE
)
_REMOVED = " (deleted)"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
SOCKET_BYTES = 512 * 1024  # twice net.core.wmem_max as kernels come
PIPE_BYTES = 64 * 1024
_SECTOR = 512
Key = tuple[int, int]  # device and inode


class Held(NamedTuple):
    """Bytes of memory and of removed files, and the descriptors that are on their way."""

    memory: int
    removed: int
    travelling: int


@dataclass
class Temporary:
    """Size-limited temporary file systems of a running sandbox, open once they are found."""

    handles: list[int] = field(default_factory=list)
    devices: frozenset[int] = frozenset()

    def find(self, pids: Iterable[int], folders: Iterable[str]) -> None:
        """Open them through the first process that is in another mount namespace than this one."""
        if self.handles:
            return
        ours = os.stat("/proc/self/ns/mnt").st_ino
        for pid in pids:
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{pid}/ns/mnt").st_ino != ours and self._opened(pid, folders):
                    return

    def _opened(self, pid: int, folders: Iterable[str]) -> bool:
        """Open the folders; False while the sandbox is being set up: its root is not final yet."""
        made: list[int] = []
        try:
            made += (os.open(f"/proc/{pid}/root{folder}", _FOLDER) for folder in folders)
            devices = frozenset(os.fstat(handle).st_dev for handle in made)
            here = {os.stat(path).st_dev for path in ("/", *folders) if os.path.exists(path)}
            if devices & here:
                raise FileNotFoundError
        except OSError:
            for handle in made:
                os.close(handle)
            return False
        self.handles, self.devices = made, devices
        return True

    def use(self) -> tuple[int, int]:
        """Return bytes used in all of them, and the most entries that one has."""
        facts = [os.fstatvfs(handle) for handle in self.handles]
        n_bytes = sum((one.f_blocks - one.f_bfree) * one.f_frsize for one in facts)
        return n_bytes, max((one.f_files - one.f_ffree for one in facts), default=0)

    def close(self) -> None:
        while self.handles:
            os.close(self.handles.pop())


@dataclass
class _Found:
    """Objects by device and inode, each counted once however many processes hold it."""

    sizes: dict[Key, int] = field(default_factory=dict)
    unknown: set[Key] = field(default_factory=set)
    sockets: set[Key] = field(default_factory=set)
    pipes: set[Key] = field(default_factory=set)
    travelling: int = 0


def held(pids: Iterable[int], temporary: Temporary, file_mb: int) -> Held:
    """Return what these processes hold together; one that has ended meanwhile counts as 0.

    A removed file whose size this user cannot ask counts as `file_mb`, the most that it can have.
    """
    found, resident, shared = _Found(), 0, 0
    for pid in pids:
        with contextlib.suppress(OSError):
            private, its_shared = _resident(pid)
            resident, shared = resident + private, shared + its_shared
            _look_at_descriptors(pid, found)
            _look_at_maps(pid, found)
    memory_devices = _memory_devices()
    objects = temporary.use()[0]
    removed = 0
    for key, size in found.sizes.items():
        if key[0] in memory_devices:
            objects += size
        elif key[0] not in temporary.devices:
            removed += size
    inodes = {key[1] for key in found.sizes if key[0] not in temporary.devices}
    for device, inode in found.unknown - found.sizes.keys():
        # Some file systems show another device in a map than to stat.
        if device in temporary.devices or device in memory_devices or inode in inodes:
            continue
        removed += file_mb * MB
    # Pages in shared objects are resident as well: the larger of the two counts.
    buffers = len(found.sockets) * SOCKET_BYTES + len(found.pipes) * PIPE_BYTES
    return Held(resident + max(shared, objects) + buffers, removed, found.travelling)


def _memory_devices() -> frozenset[int]:
    """Return devices of what lives in memory alone: the kernel's (memfd, SysV ...) and /dev/shm."""
    probe = os.memfd_create("aarlab-probe", os.MFD_CLOEXEC)
    try:
        devices = {os.fstat(probe).st_dev}
    finally:
        os.close(probe)
    with contextlib.suppress(OSError):
        devices.add(os.stat("/dev/shm").st_dev)
    return frozenset(devices)


def _resident(pid: int) -> tuple[int, int]:
    """Return bytes of a process: its own with file-backed memory, and mapped shared memory."""
    found = {name: int(kb) * 1024 for name, kb in _KB_FIELDS.findall(_read(pid, "status"))}
    return sum(n for name, n in found.items() if name != b"RssShmem"), found.get(b"RssShmem", 0)


def _read(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb") as source:
        return source.read()


def _look_at_descriptors(pid: int, found: _Found) -> None:
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            facts = os.stat(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
        key = facts.st_dev, facts.st_ino
        if stat.S_ISREG(facts.st_mode):
            if facts.st_nlink == 0:
                found.sizes[key] = facts.st_blocks * _SECTOR
        elif stat.S_ISFIFO(facts.st_mode):
            found.pipes.add(key)
        elif stat.S_ISSOCK(facts.st_mode) and key not in found.sockets:
            found.sockets.add(key)
            found.travelling += _travelling(pid, name)


def _travelling(pid: int, name: str) -> int:
    """Return descriptors that lie in a unix socket, sent and not yet received."""
    with contextlib.suppress(OSError):
        _, sep, rest = _read(pid, f"fdinfo/{name}").partition(b"scm_fds:")
        return int(rest.split()[0]) if sep else 0
    return 0


def _look_at_maps(pid: int, found: _Found) -> None:
    for span, key in _removed_maps(pid):
        try:
            facts = os.stat(f"/proc/{pid}/map_files/{span}")  # for root alone
        except OSError:
            found.unknown.add(key)
            continue
        found.sizes[facts.st_dev, facts.st_ino] = facts.st_blocks * _SECTOR


def _removed_maps(pid: int) -> Iterator[tuple[str, Key]]:
    """Yield address range, device and inode of each mapped object without a name any more."""
    for line in _read(pid, "maps").decode(errors="replace").split("\n"):
        if not line.endswith(_REMOVED):
            continue
        span, _perms, _offset, device, inode, *_ = line.split(maxsplit=5)
        major, minor = (int(part, 16) for part in device.split(":"))
        # map_files leaves out the leading zeros that a map may have
        name = "-".join(f"{int(part, 16):x}" for part in span.split("-"))
        yield name, (os.makedev(major, minor), int(inode))


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
    """Return every process below `pid`, not itself, zombies included."""
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


def ask_to_end(pid: int) -> None:
    """Send SIGTERM to what runs in the sandbox below the reaper `pid`.

    Its first process keeps the sandbox, and goes when the others have.
    """
    for process in descendants(pid):
        with contextlib.suppress(*_GONE, OSError):
            if _number_inside(process.pid) > 1:
                process.send_signal(signal.SIGTERM)


def _number_inside(pid: int) -> int:
    """Return a process's number in a namespace of its own; 0 where it has none."""
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as lines:
        numbers = next((line.split()[1:] for line in lines if line.startswith("NSpid:")), [])
    return int(numbers[-1]) if len(numbers) > _depth() else 0


def _depth() -> int:
    with open("/proc/self/status", encoding="utf-8") as lines:
        return next(len(line.split()) - 1 for line in lines if line.startswith("NSpid:"))


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
