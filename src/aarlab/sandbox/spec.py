"""What a sandbox is made of: one frozen description per AAR or verified run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from aarlab.core.errors import BadInput
from aarlab.core.isolation import SandboxKind as SandboxKind
from aarlab.core.isolation import is_isolated

Killer = Literal["wall", "cpu", "memory", "processes", "file", "disk", "cancel"]

WORKSPACE = Path("/workspace")
SOCKET_DIR = Path("/run/aarlab")
MB = 1024 * 1024
TAIL_BYTES = 16 * 1024
_EMPTY: Mapping[str, str] = MappingProxyType({})
_NO_BINDS: Mapping[Path, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """All are walls, not targets. `cpu_s`, `memory_mb` and `processes` hold for the whole tree.

    `memory_mb` is both the address space of one process (RLIMIT_AS) and what the tree holds:
    resident and swapped memory, shared memory, and all that lies in /tmp and /dev/shm, which have
    `tmp_mb` each. Torch on the CPU needs about 800 of address space. `disk_mb` counts removed files
    that are still open; more than `entries` files, folders and links in the workspace or in a
    temporary folder pass the disk limit as well. `processes` counts threads as well
    where the kernel enforces it. `output_kb` is kept of the start of each of stdout and stderr, and
    TAIL_BYTES of the end of what is longer; the rest is read and thrown away.
    """

    wall_s: float = 600.0
    cpu_s: float = 1200.0
    memory_mb: int = 4096
    processes: int = 128
    file_mb: int = 512
    disk_mb: int = 2048
    entries: int = 200_000
    tmp_mb: int = 256
    output_kb: int = 256

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if not getattr(self, name) > 0:
                raise BadInput(f"sandbox limit {name} is {getattr(self, name)}; it must be above 0")

    @property
    def cpu_walls(self) -> tuple[int, int]:
        """Return seconds of CPU time after which one process gets SIGXCPU, and SIGKILL.

        The first names the limit in the exit code; the second is for those that ignore the first.
        """
        soft_s = max(1, round(self.cpu_s))
        return soft_s, soft_s + 1


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """What a sandbox sees and may use.

    `read_only` maps a host path to the path inside; `socket` appears as /run/aarlab/<its name>.

    `masked` folders of the interpreter or this package are empty inside, and so is `SHIPPED` of
    every sandbox (`core/layout.py`): its rows have public labels. The folder of `socket` is what is
    bound, so that a restarted server's new socket is seen at once: it must hold only sockets. `uid`
    counts only where this process is root and the isolation is bubblewrap. `devices` maps device
    nodes to their paths inside, below /dev; with any, `memory_mb` limits the private memory of a
    process in place of its address space (sandbox.devices). `env` is all that the
    programs see besides PATH, HOME, TMPDIR, LANG and what says how numbers are computed
    (sandbox.settings).
    """

    workspace: Path
    read_only: Mapping[Path, str] = field(default_factory=lambda: _NO_BINDS)
    masked: tuple[Path, ...] = ()
    devices: Mapping[Path, str] = field(default_factory=lambda: _NO_BINDS)
    socket: Path | None = None
    limits: SandboxLimits = field(default_factory=SandboxLimits)
    uid: int | None = None
    env: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    isolation: SandboxKind = "bubblewrap"

    @property
    def isolated(self) -> bool:
        return is_isolated(self.isolation)

    @property
    def seen_workspace(self) -> Path:
        """Return the workspace as the programs inside name it."""
        return WORKSPACE if self.isolated else self.workspace.absolute()

    @property
    def seen_socket(self) -> Path | None:
        """Return the platform socket as the programs inside name it."""
        if self.socket is None or not self.isolated:
            return self.socket and self.socket.absolute()
        return SOCKET_DIR / self.socket.name

    def seen_read_only(self, host: Path) -> Path:
        """Return a `read_only` path as the programs inside name it; KeyError if not bound."""
        return Path(self.read_only[host]) if self.isolated else host.absolute()


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended.

    `returncode` is 128 + n after signal n. `killed_by` names the limit that was passed, if one was.
    It is also "disk" when the program ended by itself and left too much.

    `truncated` says that stdout or stderr was longer than `output_kb`: here are its start and, in
    `stdout_tail` and `stderr_tail`, its last TAIL_BYTES at most, without what the start has.
    `cpu_s` is of the whole tree.
    """

    returncode: int
    stdout: bytes
    stderr: bytes
    wall_s: float
    cpu_s: float
    killed_by: Killer | None
    truncated: bool
    stdout_tail: bytes = b""
    stderr_tail: bytes = b""

    @property
    def timed_out(self) -> bool:
        return self.killed_by == "wall"

    @property
    def ok(self) -> bool:
        return self.returncode == 0 and self.killed_by is None
