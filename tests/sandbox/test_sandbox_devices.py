"""Device nodes in a sandbox: only the leased ones, and memory walls that leave address space free.

No card is here. Nodes are copies of /dev/zero, which can be read, and of a number without a driver.
"""

import os
import stat
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from platform_kit import wait_for

from aarlab.core.errors import BadInput
from aarlab.sandbox import devices
from aarlab.sandbox.running import run
from aarlab.sandbox.spec import Finished, SandboxLimits, SandboxSpec
from aarlab.sandbox.workspace import aar_uid, prepare_workspace

ZERO, NVIDIA = os.makedev(1, 5), 195
MB = 2**20


@pytest.fixture
def dev(tmp_path: Path) -> Path:
    """A folder as /dev is on a machine with three cards, of which the second one answers."""
    folder = tmp_path / "dev"
    folder.mkdir()
    shared = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools")
    numbers = {"nvidia0": 0, "nvidia1": None, "nvidia2": 2, "nvidia-modeset": 254}
    numbers |= {name: 255 - i for i, name in enumerate(shared)}
    for name, minor in numbers.items():
        number = ZERO if minor is None else os.makedev(NVIDIA, minor)
        try:
            os.mknod(folder / name, 0o666 | stat.S_IFCHR, number)
        except PermissionError:
            pytest.skip("only root may make device nodes")
        (folder / name).chmod(0o666)
    return folder


def sandbox(tmp_path: Path, nodes: Mapping[Path, str], **limits: int) -> SandboxSpec:
    workspace = tmp_path / "workspace"
    prepare_workspace(workspace, aar_uid(0))
    spec = SandboxSpec(workspace=workspace, uid=aar_uid(0), limits=SandboxLimits(**limits))
    return devices.with_device(spec, nodes, {})


def python(spec: SandboxSpec, code: str) -> Finished:
    return run(spec, [sys.executable, "-c", code])


def said(done: Finished) -> str:
    return (done.stdout + done.stderr).decode()


def test_only_the_leased_node_is_there(tmp_path: Path, dev: Path) -> None:
    spec = sandbox(tmp_path, devices.nodes(1, dev))
    code = "import glob; print(*sorted(glob.glob('/dev/nvidia*')))"
    shared = "/dev/nvidia-uvm /dev/nvidia-uvm-tools"
    assert said(python(spec, code)).strip() == f"{shared} /dev/nvidia1 /dev/nvidiactl"
    read = "print(open('/dev/nvidia1', 'rb', buffering=0).read(3))"
    assert "\\x00\\x00\\x00" in said(python(spec, read))
    assert "No such device or address" in said(python(spec, "open('/dev/nvidiactl', 'rb')"))
    for code in (
        "import os; os.mknod('/workspace/n', 0o600 | 0o020000, os.makedev(195, 0))",
        "import os; os.mknod('/tmp/n', 0o600 | 0o020000, os.makedev(195, 0))",
        "import os; os.mknod('/dev/nvidia0', 0o600 | 0o020000, os.makedev(195, 0))",
    ):
        done = python(spec, code)
        assert not done.ok and "Error" in said(done)


def test_a_plain_bind_could_not_be_opened(tmp_path: Path, dev: Path) -> None:
    """Why devices are bound as such: the kernel refuses nodes on file systems without devices."""
    spec = sandbox(tmp_path, {})
    spec = replace(spec, read_only={dev / "nvidia1": "/device"})
    assert "Permission denied" in said(python(spec, "open('/device', 'rb')"))


def test_without_a_device_nothing_changes(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    prepare_workspace(workspace, aar_uid(0))
    spec = SandboxSpec(workspace=workspace, uid=aar_uid(0))
    assert said(python(spec, "import glob; print(glob.glob('/dev/nvidia*'))")).strip() == "[]"
    code = "import mmap; mmap.mmap(-1, 200 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_NORESERVE)"
    assert not python(spec, code).ok


RESERVE = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
NONE, PRIVATE_ANONYMOUS_NORESERVE = 0, 0x4022
got = libc.mmap(None, 200 << 30, NONE, PRIVATE_ANONYMOUS_NORESERVE, -1, 0)
print("reserved" if got != ctypes.c_void_p(-1).value else "refused")
"""


def test_address_space_is_free_and_memory_is_not(tmp_path: Path, dev: Path) -> None:
    spec = sandbox(tmp_path, devices.nodes(1, dev), memory_mb=1024)
    assert said(python(spec, RESERVE)).strip() == "reserved"
    done = python(spec, "x = bytearray(2 << 30)")
    assert "MemoryError" in said(done) or done.killed_by == "memory"
    both = "import os, time; os.fork(); x = b'x' * (700 << 20); time.sleep(120)"
    held = python(spec, both)
    assert held.killed_by == "memory", "what the tree holds together"


def test_limits_leave_room_for_a_library(tmp_path: Path, dev: Path) -> None:
    spec = sandbox(tmp_path, devices.nodes(1, dev), memory_mb=2048)
    code = """
import threading, time
threads = [threading.Thread(target=time.sleep, args=(1,)) for _ in range(300)]
for thread in threads: thread.start()
print(len(threads))
"""
    assert said(python(spec, code)).strip() == "300"
    assert (spec.limits.memory_mb, spec.limits.processes) == (2048, 1024)


def test_a_command_that_is_asked_to_end_may_clean_up(tmp_path: Path) -> None:
    workspace, ask, cancel = tmp_path / "workspace", threading.Event(), threading.Event()
    prepare_workspace(workspace, aar_uid(0))
    spec = SandboxSpec(workspace=workspace, uid=aar_uid(0))
    script = "trap 'echo saved > saved; exit 3' TERM; echo > begun; while :; do sleep 0.1; done"
    found: list[Finished] = []
    thread = threading.Thread(
        target=lambda: found.append(run(spec, ["/bin/bash", "-c", script], None, cancel, ask=ask))
    )
    thread.start()
    try:
        wait_for(lambda: (workspace / "begun").exists(), 60)
        ask.set()
        thread.join(60)
    finally:
        cancel.set()
        thread.join()
    assert (found[0].returncode, found[0].killed_by) == (3, None)
    assert (workspace / "saved").read_text() == "saved\n"


def test_which_devices_there_are(dev: Path) -> None:
    assert devices.numbers(None, dev) == (0, 1, 2)
    assert devices.numbers("", dev) == () and devices.numbers("2,0,7", dev) == (2, 0)
    with pytest.raises(BadInput, match="GPU-12"):
        devices.numbers("GPU-12", dev)
    named = devices.nodes(0, dev)
    assert sorted(named.values())[:2] == ["/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"]
    assert "/dev/nvidia0" in named.values() and "/dev/nvidia1" not in named.values()


def test_what_is_refused(tmp_path: Path, dev: Path) -> None:
    (tmp_path / "plain").touch()
    for nodes, why in (
        ({tmp_path / "plain": "/dev/nvidia0"}, "is not a device node"),
        ({dev / "nvidia1": "/tmp/nvidia0"}, "below /dev"),
        ({dev / "nvidia1": "/dev/../x"}, "below /dev"),
    ):
        with pytest.raises(BadInput, match=why):
            python(sandbox(tmp_path, nodes), "")


def test_the_library_is_where_the_loader_finds_it(tmp_path: Path) -> None:
    library = tmp_path / "libcuda.so.1"
    library.touch()
    text = f"\tlibcuda.so.1 (libc6,x86-64) => {library}\n\tlibc.so.6 (libc6) => /lib/libc.so.6\n"
    assert list(devices.libraries(text)) == [library]
    seen = devices.system_files(text)
    assert seen[library] == str(library) and all(path.exists() for path in seen)
