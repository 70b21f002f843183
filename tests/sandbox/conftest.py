"""Sandboxes for the tests."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sandbox_attempts import LIMITS

from aarlab.core.errors import SandboxUnavailable
from aarlab.sandbox import bubblewrap as bw
from aarlab.sandbox import syscalls
from aarlab.sandbox.probe import closed_switches, probe
from aarlab.sandbox.spec import SandboxSpec
from aarlab.sandbox.workspace import aar_uid, prepare_workspace


@pytest.fixture(scope="session")
def bubblewrap() -> None:
    """Skips only where the kernel forbids it; a sandbox that is broken otherwise is a failure."""
    try:
        probe("bubblewrap")
    except SandboxUnavailable as error:
        if os.geteuid() != 0 and closed_switches(Path("/proc/sys")):
            pytest.skip(str(error))
        raise


@pytest.fixture
def spec(bubblewrap: None, tmp_path: Path) -> SandboxSpec:
    workspace = tmp_path / "aar-0"
    prepare_workspace(workspace, aar_uid(0))
    return SandboxSpec(workspace, limits=LIMITS, uid=aar_uid(0))


@pytest.fixture(params=["bubblewrap", "process"])
def either(request: pytest.FixtureRequest, spec: SandboxSpec) -> SandboxSpec:
    return replace(spec, isolation=request.param)


@pytest.fixture
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: the uid outside is what is tested")


ZERO = ("/dev/full", "/dev/zero")


@pytest.fixture
def open_filter(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Take the system call filter away, and the substitute for /dev/zero with it."""

    def take_away() -> None:
        seccomp = syscalls.load_pyseccomp()
        everything = seccomp.SyscallFilter(seccomp.ALLOW)
        with os.fdopen(os.memfd_create("open"), "w+b") as out:
            everything.export_bpf(out)
            out.seek(0)
            program = out.read()
        monkeypatch.setattr(bw, "filter_program", lambda: program)
        system = bw._system
        monkeypatch.setattr(
            bw,
            "_system",
            lambda: [part for part in system() if part not in ("--dev-bind", *ZERO)],
        )

    return take_away
