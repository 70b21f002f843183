"""Devices in a sandbox: which there are, only the leased one's nodes inside, and memory walls.

No card is here. Nodes are copies of /dev/zero, which can be read, and of a number without a driver.
What the drivers show in /proc and /sys is written as their documentation and sources have it.
"""

import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from platform_kit import wait_for

from aarlab.core.device_lock import card_lock
from aarlab.core.errors import BadInput
from aarlab.sandbox import devices
from aarlab.sandbox.devices import Machine, found
from aarlab.sandbox.running import run
from aarlab.sandbox.settings import Visible
from aarlab.sandbox.spec import Finished, SandboxLimits, SandboxSpec
from aarlab.sandbox.workspace import aar_uid, prepare_workspace
from aarlab.students import settings as students
from aarlab.students.serve import device_name

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


def machine_of(dev: Path, **more: object) -> Machine:
    return Machine(dev, dev.parent / "proc", dev.parent / "sys", **more)


def nodes_of(dev: Path, number: int) -> Mapping[Path, str]:
    return found(Visible(str(number)), machine_of(dev))[0].nodes


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
    spec = sandbox(tmp_path, nodes_of(dev, 1))
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
    spec = sandbox(tmp_path, nodes_of(dev, 1), memory_mb=1024)
    assert said(python(spec, RESERVE)).strip() == "reserved"
    done = python(spec, "x = bytearray(2 << 30)")
    assert "MemoryError" in said(done) or done.killed_by == "memory"
    both = "import os, time; os.fork(); x = b'x' * (700 << 20); time.sleep(120)"
    held = python(spec, both)
    assert held.killed_by == "memory", "what the tree holds together"


def test_limits_leave_room_for_a_library(tmp_path: Path, dev: Path) -> None:
    spec = sandbox(tmp_path, nodes_of(dev, 1), memory_mb=2048)
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


# ---------------------------------------------------------------- which devices there are
UUIDS = [f"GPU-{digit * 8}-0000-0000-0000-000000000000" for digit in "abc"]


def make_node(path: Path, number: int = ZERO, mode: int = 0o666) -> Path:
    path.parent.mkdir(exist_ok=True)
    os.mknod(path, mode | stat.S_IFCHR, number)
    path.chmod(mode)
    return path


def names(visible: Visible, machine: Machine) -> list[str]:
    return [device.name for device in found(visible, machine)]


def on_the_bus(dev: Path, minors: list[int]) -> None:
    """Write /proc/driver/nvidia/gpus; the first minor is the first on the bus."""
    for place, minor in enumerate(minors):
        folder = dev.parent / f"proc/driver/nvidia/gpus/0000:{place + 1:02x}:00.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text(
            f"Model: \t\t NVIDIA A100\nIRQ:   \t\t 1\nGPU UUID: \t {UUIDS[minor]}\n"
            f"Bus Location: \t 0000:{place + 1:02x}:00.0\nDevice Minor: \t {minor}\n"
        )


def in_mig_mode(dev: Path, minor: int, instances: dict[tuple[int, int], tuple[int, int]]) -> None:
    """Write what the driver shows of MIG instances, with their capabilities and nodes."""
    for (gi, ci), numbers in instances.items():
        mig = dev.parent / f"proc/driver/nvidia/capabilities/gpu{minor}/mig/gi{gi}"
        (mig / f"ci{ci}").mkdir(parents=True, exist_ok=True)
        for place, number in zip((mig, mig / f"ci{ci}"), numbers, strict=True):
            text = f"DeviceFileMinor: {number}\nDeviceFileMode: 292\nDeviceFileModify: 1\n"
            (place / "access").write_text(text)
            node = dev / f"nvidia-caps/nvidia-cap{number}"
            if not node.exists():
                make_node(node)


def test_which_cards_there_are(dev: Path) -> None:
    machine = machine_of(dev)
    assert names(Visible(None), machine) == ["nvidia:0", "nvidia:1", "nvidia:2"]
    assert names(Visible(""), machine) == names(Visible("-1"), machine) == []
    assert names(Visible("NoDevFiles"), machine) == []
    assert names(Visible("2,0,7,2"), machine) == ["nvidia:2", "nvidia:0"]
    for wrong in ("GPU-12", "card", "MIG-GPU-1/0/0"):
        with pytest.raises(BadInput, match=wrong):
            found(Visible(wrong), machine)
    first = found(Visible("0"), machine)[0]
    shared = {"/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidiactl"}
    assert set(first.nodes.values()) == shared | {"/dev/nvidia0"}
    assert first.lock == "nvidia-0" and first.whole is None


def test_numbers_are_those_of_the_bus_and_uuids_name_cards(dev: Path) -> None:
    on_the_bus(dev, [2, 0, 1])
    machine = machine_of(dev)
    assert names(Visible(None), machine) == ["nvidia:2", "nvidia:0", "nvidia:1"]
    assert names(Visible("1"), machine) == ["nvidia:0"]
    assert names(Visible(f"{UUIDS[1]},GPU-CC"), machine) == ["nvidia:1", "nvidia:2"]
    with pytest.raises(BadInput, match="'GPU-' is the name of 3 devices"):
        found(Visible("GPU-"), machine)


def test_a_student_server_and_a_lease_have_one_lock(
    dev: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever variables the two have: torch says the card's UUID as well as the driver."""
    on_the_bus(dev, [2, 0, 1])
    about = SimpleNamespace(uuid=UUIDS[0].removeprefix("GPU-"))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _number: about)
    [leased] = found(Visible("1"), machine_of(dev))
    assert leased.name == "nvidia:0" and leased.lock == device_name(students.Device("cuda"))


def test_a_card_that_a_job_may_not_open_is_not_there(dev: Path) -> None:
    """As a job's control group leaves them in /dev: CUDA counts the others."""
    machine = machine_of(dev, may_open=lambda node: node.name != "nvidia0")
    assert names(Visible("0"), machine) == ["nvidia:1"]
    assert names(Visible(None), machine) == ["nvidia:1", "nvidia:2"]
    assert devices.may_open(dev / "nvidia0"), "no driver is no reason"
    assert not devices.may_open(dev / "nvidia9")


def test_a_card_in_mig_mode_is_its_instances(tmp_path: Path, dev: Path) -> None:
    on_the_bus(dev, [0, 1, 2])
    in_mig_mode(dev, 1, {(2, 0): (21, 22), (1, 0): (12, 13), (2, 1): (21, 23)})
    machine = machine_of(dev)
    parts = ["nvidia:1/1/0", "nvidia:1/2/0", "nvidia:1/2/1"]
    assert names(Visible(None), machine) == ["nvidia:0", *parts, "nvidia:2"]
    assert names(Visible("1"), machine) == names(Visible(UUIDS[1]), machine) == parts
    assert names(Visible(f"MIG-{UUIDS[1]}/2/1"), machine) == ["nvidia:1/2/1"]
    with pytest.raises(BadInput, match="0 devices of this machine"):
        found(Visible(f"MIG-{UUIDS[1]}/3/0"), machine)
    [second] = found(Visible(f"MIG-{UUIDS[1]}/2/0"), machine)
    assert (second.lock, second.whole) == (f"{card_lock(UUIDS[1])}/2/0", card_lock(UUIDS[1]))
    seen = (
        "import os; print(*sorted(os.listdir('/dev/nvidia-caps')), os.path.exists('/dev/nvidia1'))"
    )
    done = python(sandbox(tmp_path, second.nodes), seen)
    assert said(done).split() == ["nvidia-cap21", "nvidia-cap22", "True"]
    read = "print(open('/dev/nvidia-caps/nvidia-cap22', 'rb', buffering=0).read(2))"
    assert "\\x00\\x00" in said(python(sandbox(tmp_path, second.nodes), read))
    (dev / "nvidia-caps/nvidia-cap22").unlink()
    with pytest.raises(
        BadInput, match=r"nvidia-cap22, .* run `nvidia-modprobe -f .*gi2/ci0/access"
    ):
        found(Visible(None), machine)


NVML = """
#include <string.h>
typedef struct { unsigned minor, gi, ci; } device;
static device only = {1, 2, 0};
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, device **made) {
  if (strcmp(uuid, "MIG-d9a47cfb-d1f2-d08c-b40e-0812b597ae69")) return 6;
  *made = &only;
  return 0;
}
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device *mig, device **card) {
  if (!mig) return 2;
  *card = mig;
  return 0;
}
int nvmlDeviceGetMinorNumber(device *d, unsigned *n) { return d ? (*n = d->minor, 0) : 2; }
int nvmlDeviceGetGpuInstanceId(device *d, unsigned *n) { return d ? (*n = d->gi, 0) : 2; }
int nvmlDeviceGetComputeInstanceId(device *d, unsigned *n) { return d ? (*n = d->ci, 0) : 2; }
"""


def test_a_mig_uuid_is_asked_of_nvml(tmp_path: Path, dev: Path) -> None:
    """Of a library with NVML's calls: the driver's own is where a card is."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    in_mig_mode(dev, 1, {(1, 0): (12, 13), (2, 0): (21, 22)})
    (tmp_path / "nvml.c").write_text(NVML)
    library = tmp_path / "libnvidia-ml.so.1"
    built = [compiler, "-shared", "-fPIC", "-o", str(library), str(tmp_path / "nvml.c")]
    subprocess.run(built, check=True)
    machine = machine_of(dev, nvml=str(library))
    name = "MIG-d9a47cfb-d1f2-d08c-b40e-0812b597ae69"
    assert names(Visible(name), machine) == ["nvidia:1/2/0"]
    with pytest.raises(BadInput, match="MIG-other, which NVML does not know"):
        found(Visible("MIG-other"), machine)
    with pytest.raises(BadInput, match="NVML cannot be asked"):
        found(Visible(name), machine_of(dev, nvml="libno-such.so"))


# ---------------------------------------------------------------- cards of AMD
@pytest.fixture
def amd(tmp_path: Path) -> Machine:
    """A machine with two cards of AMD behind a processor, and the node of a third that is gone."""
    dev, nodes = tmp_path / "dev", tmp_path / "sys/class/kfd/kfd/topology/nodes"
    dev.mkdir(exist_ok=True)
    for number, (gpu, minor, unique) in enumerate(
        [(0, 0, 0), (41, 128, 0xDEADBEEF), (42, 129, 0xABC), (43, 130, 1)]
    ):
        (nodes / str(number)).mkdir(parents=True)
        (nodes / str(number) / "gpu_id").write_text(f"{gpu}\n")
        (nodes / str(number) / "properties").write_text(
            f"name \nsimd_count 240\ndrm_render_minor {minor}\nunique_id {unique}\n"
        )
    try:
        make_node(dev / "kfd")
        for minor in (128, 129):
            make_node(dev / f"dri/renderD{minor}", mode=0o660)
            os.chown(dev / f"dri/renderD{minor}", 0, 44)
    except PermissionError:
        pytest.skip("only root may make device nodes")
    return Machine(dev, tmp_path / "proc", tmp_path / "sys")


def test_which_cards_of_amd_there_are(amd: Machine) -> None:
    both = ["amd:128", "amd:129"]
    assert names(Visible(None), amd) == both
    assert names(Visible(None, rocr="1"), amd) == ["amd:129"]
    assert names(Visible(None, rocr="GPU-0000000000000ABC,0"), amd) == both[::-1]
    assert names(Visible(None, rocr="1,0", hip="1"), amd) == ["amd:128"], "counted after the first"
    assert names(Visible("1"), amd) == names(Visible("0", hip="1"), amd) == ["amd:129"]
    assert names(Visible(""), amd) == names(Visible(None, hip="-1"), amd) == []
    for variable, visible in (
        ("ROCR_VISIBLE_DEVICES", Visible(None, rocr="card0")),
        ("GPU-f", Visible(None, hip="GPU-f")),
    ):
        with pytest.raises(BadInput, match=variable):
            found(visible, amd)
    first = found(Visible(None), amd)[0]
    assert set(first.nodes.values()) == {"/dev/kfd", "/dev/dri/renderD128"}
    # Bytes of the unique id's text, as torch shows them.
    assert first.lock == "cuda-30303030-3030-3030-6465-616462656566"


def test_cards_of_both_makers(dev: Path, amd: Machine) -> None:
    assert names(Visible("2,0", rocr="1"), amd) == ["nvidia:2", "nvidia:0", "amd:129"]
    assert names(Visible("1", hip="0"), amd) == ["nvidia:1", "amd:128"]
    assert len({device.lock for device in found(Visible(None), amd)}) == 5


def test_a_card_of_amd_in_a_sandbox(tmp_path: Path, amd: Machine) -> None:
    """Its render node belongs to a group, which the sandbox's own user gets."""
    spec = sandbox(tmp_path, found(Visible("1"), amd)[0].nodes)
    code = "import os; print(*os.listdir('/dev/dri'), os.path.exists('/dev/kfd'), os.getgroups())"
    assert said(python(spec, code)).strip() == "renderD129 True [44]"
    read = "print(open('/dev/dri/renderD129', 'r+b', buffering=0).read(2))"
    assert "\\x00\\x00" in said(python(spec, read))
    plain = replace(spec, devices={})
    assert said(python(plain, "import os; print(os.getgroups())")).strip() == "[]"


def test_variables_of_devices_stay_outside(tmp_path: Path, amd: Machine) -> None:
    """Numbers of the machine would be wrong inside, where one device is left."""
    spec = sandbox(tmp_path, {})
    given = replace(spec, env={"ROCR_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "0", "A": "b"})
    assert devices.with_device(given, {}, {}).env == {"A": "b"}


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
    assert list(devices.libraries("nvidia", text)) == [library]
    assert list(devices.libraries("amd", text)) == []
    seen = devices.system_files(["nvidia"], text)
    assert seen[library] == str(library) and all(path.exists() for path in seen)
