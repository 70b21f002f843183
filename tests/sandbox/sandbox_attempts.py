"""Run a script inside, and look at the machine from outside."""

import sys
import time
from collections.abc import Callable

import psutil

from aarlab.sandbox.running import run
from aarlab.sandbox.spec import Finished, SandboxLimits, SandboxSpec

LIMITS = SandboxLimits(wall_s=60.0, cpu_s=60.0)


def python(spec: SandboxSpec, code: str, *args: object) -> Finished:
    return run(spec, [sys.executable, "-c", code, *map(str, args)])


def shell(spec: SandboxSpec, script: str, *args: object) -> Finished:
    return run(spec, ["/bin/sh", "-c", script, "sh", *map(str, args)])


def living(marker: str) -> list[int]:
    """Processes of the whole machine with this word on their command line, zombies not counted."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if marker in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.pid)
    return found


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return condition()
