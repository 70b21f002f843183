"""Memory and disk that a plain sum of resident pages and named files does not show.

Each attack prints BREACH once it holds twice what its limit allows. It must get there where the
wall is taken away, so that a script that fails for another reason is noticed.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from sandbox_attempts import LIMITS, python

from aarlab.sandbox import watch
from aarlab.sandbox.spec import SandboxSpec
from aarlab.sandbox.watch import Held, Temporary, held
from aarlab.sandbox.workspace import DiskUse, disk_use

pytestmark = pytest.mark.gate

MEMORY_MB, DISK_MB = 300, 16

PRELUDE = """
import ctypes, mmap, os, socket, sys, time
MB = 2**20
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
libc.shmdt.argtypes = [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
kept = []
def keep(message="BREACH"):
    time.sleep(4)
    print(message, flush=True)
def window(flags, handle):
    at = libc.mmap(None, 100 * MB, 3, flags, handle, 0)
    if at == 2**64 - 1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    libc.memset(at, 1, 100 * MB)
    assert libc.munmap(at + 4096, 100 * MB - 4096) == 0
def fill(handle, n_mb):
    for _ in range(n_mb):
        assert os.write(handle, b"x" * MB) == MB
"""
MEMORY = {
    "memfd, written": """
for _ in range(6):
    kept.append(os.memfd_create("x"))
    fill(kept[-1], 100)
keep()
""",
    "memfd, a window mapped": """
for _ in range(6):
    handle = os.memfd_create("x")
    fill(handle, 100)
    kept.append(mmap.mmap(handle, 4096))
    os.close(handle)
keep()
""",
    "shared anonymous, a window mapped": """
for _ in range(6):
    window(0x21, -1)
keep()
""",
    "map of /dev/zero": """
zero = os.open("/dev/zero", os.O_RDWR)
for _ in range(6):
    window(0x01, zero)
keep()
""",
    "SysV segments": """
for _ in range(6):
    name = libc.shmget(0, 100 * MB, 0o1600)
    assert name >= 0, os.strerror(ctypes.get_errno())
    at = libc.shmat(name, None, 0)
    libc.memset(at, 1, 100 * MB)
    assert libc.shmdt(at) == 0
keep()
""",
    "both temporary folders": """
for folder in ("/tmp", "/dev/shm"):
    for n in range(3):
        kept.append(os.open(f"{folder}/{n}", os.O_WRONLY | os.O_CREAT))
        fill(kept[-1], 100)
keep()
""",
    "a removed file in a temporary folder, in flight": """
for n in range(6):
    folder = ("/tmp", "/dev/shm")[n % 2]
    handle = os.open(f"{folder}/{n}", os.O_WRONLY | os.O_CREAT)
    fill(handle, 100)
    os.unlink(f"{folder}/{n}")
    pair = socket.socketpair()
    socket.send_fds(pair[0], [b"x"], [handle])
    os.close(handle)
    kept.append(pair)
keep()
""",
    "sockets that nobody reads": """
for _ in range(4):
    if os.fork() == 0:
        break
for _ in range(400):
    pair = socket.socketpair()
    for one in pair:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10**6)
        one.setblocking(False)
        try:
            while True:
                one.send(b"x" * 50_000)
        except BlockingIOError:
            pass
    kept.append(pair)
keep()
""",
}
# Nothing but the filter stands in the way of these: the kernel shows an ordinary user nothing.
FILTER_ALONE = ("SysV segments",)
FOR_ROOT_TO_SEE = (
    "memfd, a window mapped",
    "shared anonymous, a window mapped",
    "map of /dev/zero",
)
NEEDS_NO_FILTER = tuple(name for name in MEMORY if "folder" in name or "sockets" in name)

DISK = {
    "open": """
for n in range(9):
    kept.append(os.open(f"f{n}", os.O_RDWR | os.O_CREAT))
    os.unlink(f"f{n}")
    fill(kept[-1], 4)
keep()
""",
    "never had a name": """
for _ in range(9):
    kept.append(os.open(".", os.O_TMPFILE | os.O_RDWR))
    fill(kept[-1], 4)
keep()
""",
    "a window mapped": """
for n in range(9):
    handle = os.open(f"f{n}", os.O_RDWR | os.O_CREAT)
    fill(handle, 4)
    kept.append(mmap.mmap(handle, 4096))
    os.close(handle)
    os.unlink(f"f{n}")
keep()
""",
    "in flight": """
for n in range(9):
    handle = os.open(f"f{n}", os.O_RDWR | os.O_CREAT)
    fill(handle, 4)
    os.unlink(f"f{n}")
    pair = socket.socketpair()
    socket.send_fds(pair[0], [b"x"], [handle])
    os.close(handle)
    kept.append(pair)
keep()
""",
    "by another process": """
import subprocess
handle = os.open("f", os.O_RDWR | os.O_CREAT)
os.unlink("f")
fill(handle, 36)
subprocess.run(["sleep", "4"], stdout=handle)
print("BREACH")
""",
}
ENTRIES = """
import os, sys
made = 0
while made < int(sys.argv[2]):
    os.mkdir(f"{sys.argv[1]}/{made}")
    made += 1
print("BREACH")
"""


def resident_only(pids: Iterable[int], temporary: Temporary, file_mb: int) -> Held:
    """What was counted once: the resident set."""
    total = 0
    for pid in pids:
        try:
            total += psutil.Process(pid).memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return Held(total, 0, 0)


def tight(spec: SandboxSpec) -> SandboxSpec:
    limits = replace(LIMITS, memory_mb=MEMORY_MB, tmp_mb=400, disk_mb=DISK_MB, file_mb=400)
    return replace(spec, limits=limits)


@pytest.mark.parametrize("attack", MEMORY)
def test_memory_is_held_by_no_means(attack: str, spec: SandboxSpec) -> None:
    done = python(tight(spec), PRELUDE + MEMORY[attack])
    assert b"BREACH" not in done.stdout
    if attack in NEEDS_NO_FILTER:
        assert done.killed_by == "memory", done
    else:
        assert done.killed_by is None and done.returncode == 1, done
        said = (b"Function not implemented", b"No such device")
        assert any(words in done.stderr for words in said), done


@pytest.mark.parametrize("attack", [name for name in MEMORY if name not in FILTER_ALONE])
def test_memory_is_counted_where_the_filter_is_gone(
    attack: str, spec: SandboxSpec, open_filter: Callable[[], None]
) -> None:
    if attack in FOR_ROOT_TO_SEE and os.geteuid() != 0:
        pytest.skip("an ordinary user cannot see it: the filter alone stands")
    open_filter()
    done = python(tight(spec), PRELUDE + MEMORY[attack])
    assert done.killed_by == "memory" and b"BREACH" not in done.stdout, done


@pytest.mark.parametrize("attack", MEMORY)
def test_without_both_walls_the_memory_is_held(
    attack: str,
    spec: SandboxSpec,
    open_filter: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_filter()
    monkeypatch.setattr(watch, "held", resident_only)
    done = python(tight(spec), PRELUDE + MEMORY[attack])
    assert b"BREACH" in done.stdout, f"the attack itself is broken: {done}"


@pytest.mark.parametrize("attack", DISK)
def test_removed_files_count_as_disk(attack: str, either: SandboxSpec) -> None:
    done = python(tight(either), PRELUDE + DISK[attack])
    assert done.killed_by == "disk" and b"BREACH" not in done.stdout, done


@pytest.mark.parametrize("attack", DISK)
def test_removed_files_are_held_where_only_names_count(
    attack: str, spec: SandboxSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "held", resident_only)
    done = python(tight(spec), PRELUDE + DISK[attack])
    assert b"BREACH" in done.stdout, f"the attack itself is broken: {done}"


def test_a_removed_file_that_is_small_is_no_offence(either: SandboxSpec) -> None:
    code = (
        "import mmap, tempfile, time\n"
        "one = tempfile.TemporaryFile(dir='.'); one.write(b'x' * 2**20); one.flush()\n"
        "view = mmap.mmap(one.fileno(), 0)\n"
        "time.sleep(3)\n"
    )
    assert python(tight(either), code).ok


@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm", "."])
def test_folders_without_end_are_ended(folder: str, spec: SandboxSpec) -> None:
    few = replace(spec, limits=replace(LIMITS, entries=5_000))
    done = python(few, ENTRIES, folder, 600_000)
    assert done.killed_by == "disk" and done.stdout == b"", done


@pytest.mark.parametrize("folder", ["/tmp", "."])
def test_folders_below_the_limit_are_fine(folder: str, spec: SandboxSpec) -> None:
    few = replace(spec, limits=replace(LIMITS, entries=5_000))
    assert python(few, ENTRIES, folder, 4_000).stdout == b"BREACH\n"


def test_shared_memory_of_honest_programs_works(spec: SandboxSpec) -> None:
    code = (
        "import multiprocessing as mp\n"
        "from multiprocessing import shared_memory\n"
        "def work(one): one[0] = 7\n"
        "fork = mp.get_context('fork')\n"
        "shared = fork.Array('d', 1000)\n"
        "other = fork.Process(target=work, args=(shared,)); other.start(); other.join()\n"
        "block = shared_memory.SharedMemory(create=True, size=10_000_000)\n"
        "queue = fork.Queue(); queue.put([1, 2]); print(queue.get(timeout=20), shared[0])\n"
        "block.close(); block.unlink()\n"
    )
    done = python(spec, code)
    assert done.stdout == b"[1, 2] 7.0\n", done.stderr


def test_zeros_are_read_and_a_map_is_refused(spec: SandboxSpec) -> None:
    code = (
        "import mmap\n"
        "with open('/dev/zero', 'rb') as zero: print(zero.read(3))\n"
        "with open('/dev/null', 'wb') as null: null.write(b'x')\n"
    )
    assert python(spec, code).stdout == b"b'\\x00\\x00\\x00'\n"


def test_an_object_that_two_processes_hold_counts_once() -> None:
    handle = os.memfd_create("shared")
    os.write(handle, b"x" * 50 * 2**20)
    child = psutil.Popen(["sleep", "60"], pass_fds=[handle])
    try:
        one, none = held([child.pid], Temporary(), 1), held([], Temporary(), 1)
        both = held([child.pid, os.getpid()], Temporary(), 1)
        alone = held([os.getpid()], Temporary(), 1)
    finally:
        child.kill()
        child.wait()
        os.close(handle)
    assert one.memory >= 50 * 2**20 and none == Held(0, 0, 0)
    assert both.memory - alone.memory < 20 * 2**20


def test_what_was_deep_at_the_start_is_measured_all_the_same(spec: SandboxSpec) -> None:
    """Folders too deep at the start must not lift the limit of bytes for what comes after."""
    python(spec, "import os\nfor _ in range(300): os.mkdir('d'); os.chdir('d')")
    assert disk_use(spec.workspace) == DiskUse(300 * 4096, 300, deep=True)
    few = tight(spec)
    fill = "import time\nopen('big', 'wb').write(b'x' * 40 * 2**20); time.sleep(20)"
    done = python(few, fill)
    assert done.killed_by == "disk" and done.returncode != 0, done
    assert Path(spec.workspace, "big").stat().st_size <= 41 * 2**20
