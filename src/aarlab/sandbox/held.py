"""What a tree of processes holds besides its files: memory, and files without a name.

Read from /proc, so that an ordinary user needs no control group. `Temporary` also sees what no
process holds open: the whole of a sandbox's own /tmp and /dev/shm.

Covered: resident, swapped and huge pages, page tables; memfd, shared anonymous and SysV memory,
mapped or only open; removed files that are open or mapped; buffers of pipes and sockets, as many as
they can be; descriptors on their way through a socket, as files of the largest size.
Not covered: a process that hides its descriptors from this user (one started from a program that
the user may run and not read); small objects in the kernel (byte-range locks, timers, watches of
epoll); shared anonymous memory of which only a small window is mapped, where this process is not
root: the system call filter forbids to make any.
"""

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from aarlab.sandbox.spec import MB

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
        """False while the sandbox is being set up: its root is not the final one yet."""
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
        """Bytes used in all of them, and the most entries that one has."""
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
    """What these processes hold together; one that has ended meanwhile holds nothing.

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
    """Devices of what lives in memory alone: the kernel's own (memfd, SysV ...), and /dev/shm."""
    probe = os.memfd_create("aarlab-probe", os.MFD_CLOEXEC)
    try:
        devices = {os.fstat(probe).st_dev}
    finally:
        os.close(probe)
    with contextlib.suppress(OSError):
        devices.add(os.stat("/dev/shm").st_dev)
    return frozenset(devices)


def _resident(pid: int) -> tuple[int, int]:
    """Bytes of a process's own and file-backed memory, and of shared memory that it has mapped."""
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
    """Descriptors that lie in a unix socket, sent and not yet received."""
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
    """Address range, device and inode of each mapped object that has no name any more."""
    for line in _read(pid, "maps").decode(errors="replace").split("\n"):
        if not line.endswith(_REMOVED):
            continue
        span, _perms, _offset, device, inode, *_ = line.split(maxsplit=5)
        major, minor = (int(part, 16) for part in device.split(":"))
        # map_files leaves out the leading zeros that a map may have
        name = "-".join(f"{int(part, 16):x}" for part in span.split("-"))
        yield name, (os.makedev(major, minor), int(inode))
