"""Sandboxes for the tests."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from sandbox_attempts import LIMITS

from aarlab.core.errors import SandboxUnavailable
from aarlab.sandbox import SandboxSpec, aar_uid, prepare_workspace, probe
from aarlab.sandbox.probe import closed_switches


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
