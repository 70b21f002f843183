"""Run tests again as an ordinary user, in a mount namespace that opens the interpreter to it."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from aarlab.sandbox.bubblewrap import find_bwrap, interpreter_folders

NOBODY = 65534
REPOSITORY = Path(__file__).resolve().parents[2]


def run_as_ordinary_user(*words: str) -> subprocess.CompletedProcess[str]:
    """Run pytest with these words under another uid; only root can."""
    opened = ["--perms", "0755", "--tmpfs", "/root"]
    for folder in interpreter_folders():
        for parent in reversed(folder.parents):
            if parent.is_relative_to("/root"):
                opened += ["--perms", "0755", "--dir", str(parent)]
        opened += ["--ro-bind", str(folder), str(folder)]
    scratch = Path(tempfile.mkdtemp(prefix="aarlab-user-"))
    os.chown(scratch, NOBODY, NOBODY)
    command = [
        *(find_bwrap(), "--dev-bind", "/", "/", *opened, "--"),
        *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"),
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *("--basetemp", str(scratch / "t"), *words),
    ]
    try:
        return subprocess.run(
            command,
            cwd=REPOSITORY,
            env={**os.environ, "HOME": str(scratch)},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        shutil.rmtree(scratch)
