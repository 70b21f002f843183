"""Which process works on a campaign: a note next to its lock, read without touching the lock.

Trying a lock takes it for a moment, and a campaign that starts in that moment is refused. Code
that only wants to know who holds the lock therefore reads the note. A note is valid while its
process lives: same id, same start time, same boot, same folder. The notes left by `kill -9`, a
crash of the machine, a reused process id or a copied folder are therefore not valid.
Not covered: a process of another machine or another container.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from aarlab.core.files import write_atomic

Work = Literal["run", "verify", "look"]
PROC = Path("/proc")


class Holder(NamedTuple):
    """The process that holds a lock.

    `work` is running the campaign, verifying again, or looking into it (a server for one command).
    """

    pid: int
    work: Work


@contextmanager
def noted(path: Path, work: Work) -> Iterator[None]:
    """Record, for the length of the context, that this process holds the lock. Hold it first."""
    mine = {"pid": os.getpid(), "started": _started(os.getpid()), "work": work}
    write_atomic(path, json.dumps({**mine, "at": str(path.resolve())}))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def holder(path: Path) -> Holder | None:
    """Return the living process that holds the lock; None if there is none."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        pid, started, work, at = int(said["pid"]), said["started"], said["work"], said["at"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if work not in ("run", "verify", "look") or at != str(path.resolve()):
        return None
    if started is None or started != _started(pid):
        return None
    return Holder(pid, work)


def _started(pid: int) -> str | None:
    """Return the boot id and the clock tick since boot at which a process started.

    Returns None if the process is gone. Without /proc, see `_alive`.
    """
    try:
        stat = (PROC / str(pid) / "stat").read_text(encoding="utf-8")
        boot = (PROC / "sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return None if PROC.is_dir() else _alive(pid)
    state, *rest = stat.rpartition(")")[2].split()  # a command name may contain spaces
    return None if state in "ZX" else f"{boot} {rest[18]}"


def _alive(pid: int) -> str | None:
    """Return "alive" if a process has this id, else None. Used where there is no /proc.

    The id may have been reused by another process.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return "alive"
    return "alive"
