"""Devices that a sandbox may see: their nodes, and what of the system their libraries ask for.

What there is is read from /dev, /proc and /sys: cards of NVIDIA, the MIG instances of one in place
of the card, and cards of AMD. A MIG instance is its card's node with two more, one for its GPU
instance and one for its compute instance, whose numbers the driver gives in /proc. A card of AMD is
/dev/kfd, which all share, and its render node: ROCm leaves out cards whose node is not there.

The lock on a card has the name that a student server gives it, made of the UUID that torch says
(students.serve). Where the driver says none, or has given a MIG instance one that torch says in
place of its card's, a server and a lease do not know of each other.

Covered: only the nodes of the leased device and those that all devices share are there; what is
read of /sys is read-only; a node that this process may not open (a job's control group) is not
there. Not covered: the driver in the kernel, which code inside then reaches; a driver that gives
MIG capabilities by /proc alone (nv_cap_enable_devfs=0), whose instances are refused.
"""

import ctypes
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar
from uuid import UUID

from aarlab.core.device_lock import card_lock
from aarlab.core.errors import BadInput
from aarlab.sandbox.settings import VISIBLE, Visible
from aarlab.sandbox.spec import SandboxSpec

Maker = Literal["nvidia", "amd"]
SHARED = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools")  # newer drivers open the last one
NODE = re.compile(r"nvidia([0-9]+)")
FACT = re.compile(r"^(GPU UUID|Device Minor):\s*(\S+)\s*$", re.MULTILINE)
MINOR = re.compile(r"^DeviceFileMinor:\s*([0-9]+)\s*$", re.MULTILINE)
OLD_NAME = re.compile(r"MIG-(GPU-[0-9a-fA-F-]+)/([0-9]+)/([0-9]+)")
NO_DEVICE = ("-1", "NoDevFiles")
# Without these the libraries do not begin; links of the second lead to others below /sys/devices.
SYSTEM: Mapping[Maker, tuple[str, ...]] = {
    "nvidia": (
        *("/sys/devices/system/node", "/sys/bus/pci/devices"),
        *("/sys/module/nvidia", "/sys/module/nvidia_uvm"),
    ),
    "amd": (
        *("/sys/devices/system/node", "/sys/bus/pci/devices", "/sys/module/amdgpu"),
        *("/sys/class/kfd", "/sys/devices/virtual/kfd", "/sys/class/drm", "/sys/dev/char"),
    ),
}
LIBRARIES: Mapping[Maker, tuple[str, ...]] = {
    "nvidia": ("libcuda.so",),
    "amd": ("libhsa-runtime64.so", "libamdhip64.so"),
}
# At least, of what a sandbox with a device may use: CUDA has threads and files of its own.
PROCESSES, TMP_MB, FILE_MB, DISK_MB, CPU_TIMES = 1024, 8192, 16_384, 65_536, 16.0
CHECKS: Mapping[Maker, str] = {
    "nvidia": """\
import ctypes
code = ctypes.CDLL("libcuda.so.1").cuInit(0)
raise SystemExit(f"cuInit gave {code}" if code else 0)
""",
    "amd": """\
import ctypes
code = ctypes.CDLL("libhsa-runtime64.so.1").hsa_init()
raise SystemExit(f"hsa_init gave {code}" if code else 0)
""",
}


@dataclass(frozen=True, slots=True)
class Device:
    """A card, or a MIG instance of one, that a sandbox may have alone.

    `nodes` are mapped to paths inside. `lock` is the name of the lock on it, which a student server
    has too, and `whole` that of the card of which it is a part.
    """

    name: str
    maker: Maker
    nodes: Mapping[Path, str]
    lock: str
    whole: str | None = None


def may_open(node: Path) -> bool:
    """Return False for a node that this process may not open, whatever else is wrong with it."""
    try:
        os.close(os.open(node, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    except (PermissionError, FileNotFoundError):
        return False
    except OSError:
        return True
    return True


@dataclass(frozen=True)
class Machine:
    """Where the kernel shows its devices. `nvml` is the library that knows UUIDs of MIG."""

    dev: Path = Path("/dev")
    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    nvml: str = "libnvidia-ml.so.1"
    may_open: Callable[[Path], bool] = may_open


def found(visible: Visible, machine: Machine | None = None) -> tuple[Device, ...]:
    """Return the devices of this machine that `visible` lets see, in its order.

    A number is that of the card on the bus; that of a card in MIG mode means all its instances.
    Raises BadInput for a name that is none of a device here, and for a MIG instance without nodes.
    """
    machine = machine or Machine()
    cards = _cards(machine)
    nvidia = _chosen_nvidia(visible.cuda, cards, machine)
    others = visible.hip if visible.hip is not None or cards else visible.cuda
    return (*nvidia, *_chosen_amd(visible.rocr, others, _amd(machine)))


# ---------------------------------------------------------------- NVIDIA
@dataclass(frozen=True, slots=True)
class _Card:
    minor: int
    uuid: str
    devices: Mapping[tuple[int, int] | None, Device]  # MIG instances, or None: the whole card


def _cards(machine: Machine) -> list[_Card]:
    """Return the cards in the order of the bus, where the driver says it."""
    about = {}
    for text in (machine.proc / "driver/nvidia/gpus").glob("*/information"):
        facts = dict(FACT.findall(text.read_text(encoding="utf-8", errors="replace")))
        if facts.get("Device Minor", "").isdigit():
            about[int(facts["Device Minor"])] = (text.parent.name, facts.get("GPU UUID", ""))
    minors = [int(m[1]) for path in machine.dev.glob("nvidia*") if (m := NODE.fullmatch(path.name))]
    there = [minor for minor in minors if machine.may_open(machine.dev / f"nvidia{minor}")]
    there.sort(key=lambda minor: (about.get(minor, ("~", ""))[0], minor))
    uuids = {minor: about.get(minor, ("", ""))[1] for minor in there}
    return [_Card(n, uuids[n], _devices_of(machine, n, uuids[n])) for n in there]


def _devices_of(machine: Machine, minor: int, uuid: str) -> dict[tuple[int, int] | None, Device]:
    named = [machine.dev / name for name in (f"nvidia{minor}", *SHARED)]
    nodes = {path: f"/dev/{path.name}" for path in named if path.exists()}
    whole = card_lock(uuid) if uuid else f"nvidia-{minor}"
    parts: dict[tuple[int, int] | None, Device] = {}
    mig = machine.proc / f"driver/nvidia/capabilities/gpu{minor}/mig"
    for access in mig.glob("gi*/ci*/access"):
        gi, ci = int(access.parent.parent.name[2:]), int(access.parent.name[2:])
        more = [_capability(machine, of) for of in (access.parents[1] / "access", access)]
        parts[gi, ci] = Device(
            f"nvidia:{minor}/{gi}/{ci}",
            "nvidia",
            nodes | {path: f"/dev/nvidia-caps/{path.name}" for path in more},
            f"{whole}/{gi}/{ci}",
            whole,
        )
    if parts:
        return dict(sorted(parts.items()))
    return {None: Device(f"nvidia:{minor}", "nvidia", nodes, whole)}


def _capability(machine: Machine, access: Path) -> Path:
    """Return the node of a MIG capability."""
    number = MINOR.search(access.read_text(encoding="utf-8"))
    node = machine.dev / f"nvidia-caps/nvidia-cap{number[1] if number else '?'}"
    if not node.exists():
        raise BadInput(
            f"{node}, the node of a MIG instance, is not there: run `nvidia-modprobe -f {access}`; "
            "the driver must have nv_cap_enable_devfs=1"
        )
    return node


def _chosen_nvidia(
    visible: str | None, cards: Sequence[_Card], machine: Machine
) -> tuple[Device, ...]:
    if visible is None or not cards:
        return tuple(device for card in cards for device in card.devices.values())
    chosen: dict[str, Device] = {}
    for word in _words(visible):
        for device in _named(word, cards, machine):
            chosen[device.name] = device
    return tuple(chosen.values())


def _named(word: str, cards: Sequence[_Card], machine: Machine) -> Iterable[Device]:
    """Return the devices that a word of CUDA's variable means."""
    if word.isdigit():
        return cards[int(word)].devices.values() if int(word) < len(cards) else ()
    if word.startswith("GPU-"):
        return _one(word, [card for card in cards if _begins(card.uuid, word)]).devices.values()
    if old := OLD_NAME.fullmatch(word):
        card = _one(word, [card for card in cards if card.uuid.lower() == old[1].lower()])
        part = (int(old[2]), int(old[3]))
    elif word.startswith("MIG-"):
        minor, *numbers = _instance(word, machine.nvml)
        card = _one(word, [card for card in cards if card.minor == minor])
        part = (numbers[0], numbers[1])
    else:
        raise BadInput(
            f"{VISIBLE.cuda} names {word!r}: give devices by number or UUID for `sandbox_devices`"
        )
    return [_one(word, [device for key, device in card.devices.items() if key == part])]


def _instance(uuid: str, library: str) -> tuple[int, int, int]:
    """Return card, GPU instance and compute instance of a MIG UUID: only NVML knows them."""
    device, card = ctypes.c_void_p(), ctypes.c_void_p()
    minor, gi, ci = ctypes.c_uint(), ctypes.c_uint(), ctypes.c_uint()
    try:
        nvml = ctypes.CDLL(library)
        codes = [
            nvml.nvmlInit_v2(),
            nvml.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(device)),
            nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device, ctypes.byref(card)),
            nvml.nvmlDeviceGetMinorNumber(card, ctypes.byref(minor)),
            nvml.nvmlDeviceGetGpuInstanceId(device, ctypes.byref(gi)),
            nvml.nvmlDeviceGetComputeInstanceId(device, ctypes.byref(ci)),
        ]
        nvml.nvmlShutdown()
    except (OSError, AttributeError) as error:
        raise BadInput(f"{VISIBLE.cuda} names {uuid}, and NVML cannot be asked: {error}") from None
    if any(codes):
        raise BadInput(f"{VISIBLE.cuda} names {uuid}, which NVML does not know: it gave {codes}")
    return minor.value, gi.value, ci.value


# ---------------------------------------------------------------- AMD
def _amd(machine: Machine) -> list[tuple[str, Device]]:
    """Return the cards in the driver's order, each with its UUID."""
    cards: list[tuple[str, Device]] = []
    nodes = (machine.sys / "class/kfd/kfd/topology/nodes").glob("[0-9]*")
    for node in sorted(nodes, key=lambda path: int(path.name)):
        try:
            lines = (node / "properties").read_text(encoding="utf-8").split("\n")
            facts = dict(line.split(" ", 1) for line in lines if " " in line)
            is_card = int((node / "gpu_id").read_text(encoding="utf-8")) != 0
        except (OSError, ValueError):  # the kernel shows a job only its own
            continue
        render = machine.dev / f"dri/renderD{facts.get('drm_render_minor', '?')}"
        if not is_card or not machine.may_open(render):
            continue
        unique = f"{int(facts.get('unique_id', '0')):016x}"
        device = Device(
            f"amd:{render.name.removeprefix('renderD')}",
            "amd",
            {machine.dev / "kfd": "/dev/kfd", render: f"/dev/dri/{render.name}"},
            card_lock(_as_torch_has_it(unique)) if int(unique, 16) else f"amd-{render.name}",
        )
        cards.append((f"GPU-{unique}", device))
    return cards


def _as_torch_has_it(unique: str) -> str:
    """Return the UUID that ROCm makes of a card's unique id: the text's bytes, in hex."""
    return str(UUID(bytes=unique.encode()))


def _chosen_amd(
    rocr: str | None, hip: str | None, cards: Sequence[tuple[str, Device]]
) -> tuple[Device, ...]:
    """Return what two variables choose, the second one among those that the first one lets see."""
    for variable, visible in ((VISIBLE.rocr, rocr), (VISIBLE.hip, hip)):
        if visible is None or not cards:
            continue
        chosen: dict[str, tuple[str, Device]] = {}
        for word in _words(visible):
            if word.isdigit():
                picked = list(cards[int(word) : int(word) + 1])
            elif word.startswith("GPU-"):
                picked = [_one(word, [card for card in cards if _begins(card[0], word)])]
            else:
                raise BadInput(f"{variable} names {word!r}: give devices by number or UUID")
            chosen |= {card[1].name: card for card in picked}
        cards = list(chosen.values())
    return tuple(device for _, device in cards)


# ---------------------------------------------------------------- names
def _words(visible: str) -> Iterator[str]:
    """Yield the words of a variable, up to one that says that there are no more."""
    for word in (word.strip() for word in visible.split(",")):
        if word in NO_DEVICE:
            return
        if word:
            yield word


def _begins(uuid: str, word: str) -> bool:
    return uuid.lower().startswith(word.lower())


One = TypeVar("One")


def _one(word: str, there: Sequence[One]) -> One:
    if len(there) != 1:
        raise BadInput(f"{word!r} is the name of {len(there)} devices of this machine, not of one")
    return there[0]


# ---------------------------------------------------------------- the sandbox
def system_files(makers: Iterable[Maker], ldconfig: str | None = None) -> dict[Path, str]:
    """Return what of the system the libraries of these devices read, mapped to the same paths."""
    wanted = set(makers)
    found = {Path(name) for maker in wanted for name in SYSTEM[maker] if Path(name).exists()}
    links = Path("/sys/bus/pci/devices")
    if wanted and links.is_dir():
        targets = {entry.resolve() for entry in links.iterdir()}
        found |= {Path(*target.parts[:4]) for target in targets}  # /sys/devices/pciDOMAIN:BUS
    places = (path for maker in wanted for path in libraries(maker, ldconfig))
    found |= {path for path in places if not path.is_relative_to("/usr")}
    return {path: str(path) for path in sorted(found)}


def libraries(maker: Maker, ldconfig: str | None = None) -> Iterable[Path]:
    """Return where the loader finds a maker's library; `ldconfig` is what `ldconfig -p` says."""
    program = shutil.which("ldconfig", path="/sbin:/usr/sbin:/bin:/usr/bin")
    if ldconfig is None and program is not None:
        done = subprocess.run(
            [program, "-p"], capture_output=True, encoding="utf-8", errors="replace", check=False
        )
        ldconfig = done.stdout
    for line in (ldconfig or "").split("\n"):
        name, _, place = line.strip().partition(" => ")
        if name.startswith(LIBRARIES[maker]) and Path(place).exists():
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
    env = {name: value for name, value in spec.env.items() if name not in VISIBLE}
    read_only = {**dict(system), **dict(spec.read_only)}
    return replace(spec, devices=seen, read_only=read_only, limits=raised, env=env)
