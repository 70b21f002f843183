"""The command line without isolation: same interface, limits and time-out; every score says so.

Covered: limits per process and for the tree, time-out, clean environment.
Not covered: everything else. The program reads what its user reads, and reaches the network.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from aarlab.sandbox import reaper
from aarlab.sandbox.spec import MB, SandboxLimits, SandboxSpec


def limited(spec: SandboxSpec, argv: Sequence[str], supervisor: int) -> list[str]:
    """Return the program under its limits and nothing else."""
    return reaped(argv, supervisor, _rlimits(spec.limits))


def reaped(
    argv: Sequence[str], supervisor: int, limits: Mapping[str, tuple[int, int]]
) -> list[str]:
    """Return `argv` under the reaper, which ends the tree when process `supervisor` is gone."""
    walls = [f"{name}={soft}:{hard}" for name, (soft, hard) in limits.items()]
    script = str(Path(reaper.__file__))
    words = [str(supervisor), str(len(walls)), *walls, *argv]
    return [sys.executable, "-I", "-S", script, *words]


def _rlimits(limits: SandboxLimits) -> dict[str, tuple[int, int]]:
    """Return the limits.

    They leave out RLIMIT_NPROC, which would count everything that this user runs. The watch counts
    the tree.
    """
    fixed = {
        "RLIMIT_AS": limits.memory_mb * MB,
        "RLIMIT_FSIZE": limits.file_mb * MB,
        "RLIMIT_NOFILE": 1024,
        "RLIMIT_CORE": 0,
    }
    return {**{name: (wall, wall) for name, wall in fixed.items()}, "RLIMIT_CPU": limits.cpu_walls}
