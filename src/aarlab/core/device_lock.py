"""The lock on a device of this machine: for a student server, a verifier, or a leased command.

Truth is in the kernel's lock on a file: whoever has it has the device, and a killed holder frees it
at once. What a file says of its holder is for people.

Covered: SIGKILL at any line; a folder that others may write to, which is refused. The folder must
be on a disk of the machine.
"""

import fcntl
import json
import os
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aarlab.core.errors import BadInput, Conflict

TRIES_S = (0.05, 0.1, 0.2, 0.0)  # `is_held` takes the lock too, for a moment


class DeviceLock:
    """The lock on one device, held as long as its file is open.

    Those who have it as `shared` have parts of the device, and shut out whoever wants all of it.
    """

    def __init__(self, folder: Path, device: str, shared: bool = False) -> None:
        self.path = folder / f"{device.replace('/', '-')}.lock"
        self._how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._file = -1

    def take(self, note: Mapping[str, Any]) -> None:
        """Take the lock and write a note about its holder into it.

        Raises Conflict, which names the holder, and BadInput for a folder of others.
        """
        own_folder(self.path.parent)
        for wait_s in TRIES_S:
            if self.taken(note):
                return
            time.sleep(wait_s)
        held = self.note()
        if "holder" in held:  # it gives the device back by itself
            raise Conflict(f"{held['holder']} (process {held['pid']}) has this device: wait")
        raise Conflict(
            f"a student server (process {held.get('pid', '?')}, socket "
            f"{held.get('socket', '?')}) has this device: use it, or end it first"
        )

    def taken(self, note: Mapping[str, Any]) -> bool:
        """Take the lock if it is free at this moment, and return whether it was."""
        file = locked(self.path, self._how)
        if file is None:
            return False
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(dict(note)).encode(), 0)
        self._file = file
        return True

    def give(self) -> None:
        """Release the lock, if it is held."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def note(self) -> dict[str, Any]:
        """Return what the holder wrote, empty if it is not readable."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def is_held(self) -> bool:
        """Return whether a living process holds the whole device."""
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(file)
        return False


def card_lock(uuid: str) -> str:
    """Return the name of the lock on a card, by the UUID that its driver or CUDA gives it."""
    return f"cuda-{uuid.lower().removeprefix('gpu-')}"


def locked(path: Path, how: int = fcntl.LOCK_EX) -> int | None:
    """Return a lock on a file, None if another has it. It ends with the process."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def own_folder(folder: Path) -> None:
    """Make the folder of the locks. Raises BadInput if it is not this user's alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o022:
        raise BadInput(
            f"{folder} is not a folder of this user alone: set AARLAB_DEVICE_LOCKS to one that "
            "is, on a disk of this machine"
        )
