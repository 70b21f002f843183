"""An interpreter or read-only folder that lies below the host's /tmp is still there inside."""

import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from aarlab.sandbox import bubblewrap as bw
from aarlab.sandbox.probe import probe
from aarlab.sandbox.running import run
from aarlab.sandbox.spec import SandboxSpec
from aarlab.sandbox.workspace import aar_uid, prepare_workspace


def test_folders_below_tmp_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    probe("bubblewrap")
    home = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        home.chmod(0o755)
        (home / "task").mkdir(mode=0o755)
        (home / "task" / "row").write_text("seen")
        (home / "bin").mkdir(mode=0o755)
        (home / "bin" / "tool").write_text("#!/bin/sh\ncat " + str(home / "task" / "row"))
        (home / "bin" / "tool").chmod(0o755)
        folders = [*bw.interpreter_folders(), home / "bin"]
        monkeypatch.setattr(bw, "interpreter_folders", lambda: folders)
        uid = aar_uid(900)
        prepare_workspace(home / "work", uid)
        spec = SandboxSpec(home / "work", {home / "task": str(home / "task")}, uid=uid)
        done = run(spec, [str(home / "bin" / "tool")])
        assert done.stdout == b"seen", done.stderr
        written = Path(f"{home}-written")  # one level up: /tmp itself
        assert run(spec, [sys.executable, "-c", f"open('{written}', 'w').write('y')"]).ok
        assert not written.exists()
    finally:
        shutil.rmtree(home)
