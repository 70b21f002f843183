"""What lies in the run's folder beside the database: events, the spec, whether a process runs it.

Everything here is read, nothing is written, and nothing is believed: a damaged line is left out.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from aarlab.core.layout import RunDir

TAIL = 1 << 18
MAX_SPEC = 4 << 20
LOCKS = Path("/proc/locks")
Facts = dict[str, Any]


class Disk(NamedTuple):
    free_bytes: int
    total_bytes: int


def last_events(run: RunDir, count: int = 200) -> list[Facts]:
    """The newest events of the campaign, oldest first."""
    try:
        with run.events.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - TAIL, 0))
            lines = file.read().split(b"\n")
    except OSError:
        return []
    return [event for line in lines if (event := _event(line)) is not None][-count:]


def _event(line: bytes) -> Facts | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    good = isinstance(found, dict) and isinstance(found.get("kind"), str)
    return found if good and isinstance(found.get("at"), str) else None


def campaign_spec(run: RunDir) -> Facts:
    """The frozen spec; empty where there is none that can be read."""
    try:
        if run.spec.stat().st_size > MAX_SPEC:
            return {}
        spec = json.loads(run.spec.read_text())["campaign"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return spec if isinstance(spec, dict) else {}


def is_run_by_a_process(run: RunDir) -> bool:
    """Whether a process holds the campaign's lock. Looking does not take it, as trying would."""
    try:
        inode = (run.path / ".lock").stat().st_ino
        locks = [line.split() for line in LOCKS.read_text().split("\n")]
    except OSError:
        return False
    # The device is left out: an overlay shows another one than the kernel's list.
    return any("FLOCK" in line and line[-3].endswith(f":{inode}") for line in locks)


def state_of(run: RunDir, events: list[Facts] | None = None) -> str:
    """running, finished, stopped (begun and not at its end), or new."""
    kinds = [e["kind"] for e in (last_events(run) if events is None else events)]
    if is_run_by_a_process(run):
        return "running"
    phases = [kind for kind in kinds if kind in ("campaign_started", "campaign_finished")]
    if phases and phases[-1] == "campaign_finished":
        return "finished"
    return "stopped" if kinds else "new"


def disk(path: Path) -> Disk:
    usage = shutil.disk_usage(path)
    return Disk(usage.free, usage.total)
