"""Servers that start in a fraction of a second: forked from a process that has imported them.

Importing the server takes longer than most tests of it. Each server is a process of its own all the
same, with its own arguments, environment, log and end. Tests of how a server starts and is killed
start it as users do, with `platform_kit.spawn`.
"""

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import connection
from pathlib import Path

from seeded_server import fixed_seeds

PR_SET_PDEATHSIG = 1
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["aarlab.server.__main__", "scipy.special", "forked_server"])


class ForkedServer:
    """A started server, with the part of `subprocess.Popen` that tests use."""

    def __init__(self, argv: Sequence[str], variables: Mapping[str, str], log: Path) -> None:
        given = (list(argv), dict(variables), str(log))
        self._process = _FORKS.Process(target=_serve, args=given)
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        connection.wait([self._process.sentinel], timeout)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired("aarlab.server", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _serve(argv: list[str], variables: dict[str, str], log: str) -> None:
    # A test that fails before it stops its server must not leave it behind.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.environ.clear()
    os.environ.update(variables)
    sys.path[:0] = variables.get("PYTHONPATH", "").split(os.pathsep)
    written = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(written, 1)
    os.dup2(written, 2)
    sys.stderr = os.fdopen(2, "w", buffering=1)

    from aarlab.server.__main__ import main
    from aarlab.store import verifications

    verifications.draw_seeds = fixed_seeds
    sys.exit(main(argv))
