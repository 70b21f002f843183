"""Servers and verifiers that start at once: forked from a process that has imported them.

Importing the server takes longer than most tests of it. Each one is a process of its own all the
same, with its own arguments, environment, log and end. Tests of how a server starts and is killed
start it as users do, with `platform_kit.spawn`; tests of the command run everything as users do.
"""

import ctypes
import gc
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import connection
from pathlib import Path

import seeded_server
from seeded_server import fixed_seeds

from aarlab.executors.base import Job
from aarlab.executors.local import LocalExecutor, LocalHandle

PR_SET_PDEATHSIG = 1
_FORKS = multiprocessing.get_context("forkserver")
_LOADED = ["aarlab.server.__main__", "aarlab.verify.__main__", "scipy.special", "forked"]
_FORKS.set_forkserver_preload(_LOADED)


class Forked:
    """A started process, with the part of `subprocess.Popen` that is used."""

    def __init__(
        self, module: str, argv: Sequence[str], variables: Mapping[str, str], log: Path
    ) -> None:
        given = (module, list(argv), dict(variables), str(log))
        self._process = _FORKS.Process(target=_main, args=given)
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
            raise subprocess.TimeoutExpired("a forked process", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _main(module: str, argv: list[str], variables: dict[str, str], log: str) -> None:
    gc.freeze()  # what is imported stays to the end
    # A test that fails before it stops its server must not leave it behind.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    os.environ.clear()
    os.environ.update(variables)
    sys.path[:0] = variables.get("PYTHONPATH", "").split(os.pathsep)
    written = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(written, 1)
    os.dup2(written, 2)
    sys.stderr = os.fdopen(2, "w", buffering=1)

    from aarlab.store import verifications

    verifications.draw_seeds = fixed_seeds
    sys.exit(importlib.import_module(module).main(argv))


def start_job(executor: LocalExecutor, job: Job) -> LocalHandle:
    """Stand for `LocalExecutor.start`: fork what is loaded, start anything else as it does."""
    words = list(job.argv)
    for module, marks in MODULES.items():
        if words[1 : 1 + len(marks)] == marks:
            job.log.parent.mkdir(parents=True, exist_ok=True)
            variables = {**os.environ, **job.env}
            return LocalHandle(Forked(module, words[1 + len(marks) :], variables, job.log))
    return _start_job(executor, job)


_start_job = LocalExecutor.start
MODULES = {
    "aarlab.server.__main__": [seeded_server.__file__],
    "aarlab.verify.__main__": ["-m", "aarlab.verify"],
}
