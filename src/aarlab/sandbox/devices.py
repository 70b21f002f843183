"""Devices that a sandbox may see: their nodes, and what of the system CUDA asks for.

Covered: only the nodes of the leased device and those that all devices share are there; what is
read of /sys is read-only. Not covered: the driver in the kernel, which code inside then reaches;
devices of other makers than NVIDIA; parts of a device (MIG).
"""

import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from aarlab.core.errors import BadInput
from aarlab.sandbox.spec import SandboxSpec

DEV = Path("/dev")
SHARED = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools")  # newer drivers open the last one
NODE = re.compile(r"nvidia([0-9]+)")
# Without these cuInit fails; links of the third lead to the others below /sys/devices.
SYSTEM = (
    *("/sys/devices/system/node", "/sys/module/nvidia", "/sys/module/nvidia_uvm"),
    "/sys/bus/pci/devices",
)
LIBRARY = "libcuda.so"
# At least, of what a sandbox with a device may use: CUDA has threads and files of its own.
PROCESSES, TMP_MB, FILE_MB, DISK_MB, CPU_TIMES = 1024, 8192, 16_384, 65_536, 16.0
CHECK = """\
import ctypes
code = ctypes.CDLL("libcuda.so.1").cuInit(0)
raise SystemExit(f"cuInit gave {code}" if code else 0)
"""


def numbers(visible: str | None, dev: Path = DEV) -> tuple[int, ...]:
    """Return the devices of this machine by number, as far as CUDA_VISIBLE_DEVICES lets see them.

    Raises BadInput for names that are not numbers: which node is meant is not known then.
    """
    there = sorted(int(m[1]) for path in dev.glob("nvidia*") if (m := NODE.fullmatch(path.name)))
    if visible is None:
        return tuple(there)
    named = [word.strip() for word in visible.split(",") if word.strip()]
    if wrong := [word for word in named if not word.isdigit()]:
        raise BadInput(
            f"CUDA_VISIBLE_DEVICES names {wrong[0]!r}: give devices by number for `sandbox_devices`"
        )
    return tuple(number for number in map(int, named) if number in there)


def nodes(number: int, dev: Path = DEV) -> dict[Path, str]:
    """Return the nodes of one device, with those that all share, mapped to paths inside."""
    named = [f"nvidia{number}", *SHARED]
    return {dev / name: f"/dev/{name}" for name in named if (dev / name).exists()}


def system_files(ldconfig: str | None = None) -> dict[Path, str]:
    """Return what of the system CUDA reads, mapped to the same paths inside."""
    found = {Path(name) for name in SYSTEM if Path(name).exists()}
    links = Path("/sys/bus/pci/devices")
    if links.is_dir():
        targets = {entry.resolve() for entry in links.iterdir()}
        found |= {Path(*target.parts[:4]) for target in targets}  # /sys/devices/pciDOMAIN:BUS
    found |= {path for path in libraries(ldconfig) if not path.is_relative_to("/usr")}
    return {path: str(path) for path in sorted(found)}


def libraries(ldconfig: str | None = None) -> Iterable[Path]:
    """Return where the loader finds CUDA's library; `ldconfig` is what `ldconfig -p` says."""
    program = shutil.which("ldconfig", path="/sbin:/usr/sbin:/bin:/usr/bin")
    if ldconfig is None and program is not None:
        done = subprocess.run(
            [program, "-p"], capture_output=True, encoding="utf-8", errors="replace", check=False
        )
        ldconfig = done.stdout
    for line in (ldconfig or "").split("\n"):
        name, _, place = line.strip().partition(" => ")
        if name.startswith(LIBRARY) and Path(place).exists():
            yield Path(place)


def with_device(
    spec: SandboxSpec, seen: Mapping[Path, str], system: Mapping[Path, str]
) -> SandboxSpec:
    """Return the sandbox with a device's nodes, and limits that leave room for its library.

    CUDA reserves more address space than any limit of it. Private memory is limited in its place.
    """
    limits = spec.limits
    raised = replace(
        limits,
        processes=max(limits.processes, PROCESSES),
        tmp_mb=max(limits.tmp_mb, TMP_MB),
        file_mb=max(limits.file_mb, FILE_MB),
        disk_mb=max(limits.disk_mb, DISK_MB),
        cpu_s=max(limits.cpu_s, CPU_TIMES * limits.wall_s),
    )
    env = {name: value for name, value in spec.env.items() if name != "CUDA_VISIBLE_DEVICES"}
    read_only = {**dict(system), **dict(spec.read_only)}
    return replace(spec, devices=seen, read_only=read_only, limits=raised, env=env)
