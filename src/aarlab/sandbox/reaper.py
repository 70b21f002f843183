"""Runs one command and ends, and reaps, every process that it leaves behind.

Started as a script with `python -I -S`, standard library only:
reaper.py SUPERVISOR_PID N_LIMITS RLIMIT_X=SOFT:HARD ... COMMAND ...
It is the reaper of orphans: a daemon that forks twice and leaves its session still counts as a
descendant, its CPU time is counted, and no zombie is left to a PID 1 that does not reap.

Covered: limits per process; the whole tree ends with the command, with this process (SIGTERM) and
with the supervisor.
Not covered: without bubblewrap the command runs as the same user and can, if it means to, kill this
process.
"""

import ctypes
import os
import resource
import signal
import sys
import time
from types import FrameType

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
_ROUND_S = 0.002
_GIVE_UP_S = 4.0


def main(argv: list[str]) -> int:
    """Run the command; return its exit code, or 128 + n after signal n."""
    supervisor, n_limits = int(argv[0]), int(argv[1])
    limits, command = argv[2 : 2 + n_limits], argv[2 + n_limits :]
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, _end)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != supervisor:
        return 1
    child = os.fork()
    if child == 0:
        _become(limits, command)
    while True:
        ended, status = os.wait()
        if ended == child:
            break
    end_descendants()
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _become(limits: list[str], command: list[str]) -> None:
    """Replace this (child) process by the command; 127 if it cannot be started."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for limit in limits:
        name, _, values = limit.partition("=")
        which = getattr(resource, name)
        wall = resource.getrlimit(which)[1]
        pair = [int(value) for value in values.split(":")]
        if wall != resource.RLIM_INFINITY:
            pair = [min(value, wall) for value in pair]
        resource.setrlimit(which, (pair[0], pair[1]))
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(127)


def _end(_signal: int, _frame: FrameType | None) -> None:
    end_descendants()
    os._exit(128 + signal.SIGTERM)


def end_descendants() -> None:
    """Send SIGKILL to all descendants until none is left.

    Each is stopped first, so that it cannot fork away meanwhile. Gives up on what cannot be killed
    (another user's, stuck in the kernel) after some seconds.
    """
    deadline = time.monotonic() + _GIVE_UP_S
    while (found := _descendants()) and time.monotonic() < deadline:
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in found:
                try:
                    os.kill(pid, number)
                except (ProcessLookupError, PermissionError):
                    continue
        time.sleep(_ROUND_S)
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return


def _descendants() -> list[int]:
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (stat := _stat(int(name))):
            parent, ended = stat
            if not ended:
                children.setdefault(parent, []).append(int(name))
    found, todo = [], [os.getpid()]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def _stat(pid: int) -> tuple[int, bool] | None:
    """Return the parent, and whether it has ended: a zombie whose last thread is gone.

    Such a zombie has no children.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as lines:
            fields = lines.read().rpartition(")")[2].split()
    except OSError:
        return None
    state, parent, n_threads = fields[0], int(fields[1]), int(fields[17])
    return parent, state in "ZX" and n_threads <= 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
