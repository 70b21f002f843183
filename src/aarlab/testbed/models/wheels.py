"""Fetch one wheel from the package registry by name, without its dependencies, pinned by sha256.

Covered: a damaged or exchanged file. Not covered: a registry without it; the message says so.
"""

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from aarlab.core.errors import BadInput, Damaged, NotFound, Unreachable

PIP_TIMEOUT_S = 900


@dataclass(frozen=True, slots=True)
class Wheel:
    package: str
    version: str
    sha256: str


def fetch_wheel(wheel: Wheel, folder: Path) -> Path:
    """Return the path of the checked wheel inside `folder`, which must hold no other wheel.

    Raises Unreachable when pip cannot fetch it, Damaged when it is not the pinned file.
    """
    _pip_download(wheel, folder)
    files = list(folder.glob("*.whl"))
    if len(files) != 1:
        raise NotFound(f"{wheel.package} {wheel.version}: expected one wheel, got {len(files)}")
    with files[0].open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wheel.sha256:
        raise Damaged(
            f"{files[0].name}: expected sha256 {wheel.sha256}, found {found}; run the same command "
            "again; if it stays, the registry serves another file: report it"
        )
    return files[0]


def _pip_download(wheel: Wheel, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--no-input", "--disable-pip-version-check", "--quiet", "--dest", str(folder)]
    command.append(f"{wheel.package}=={wheel.version}")
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=PIP_TIMEOUT_S,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except subprocess.TimeoutExpired as error:
        raise Unreachable(
            f"fetching {wheel.package} took over {PIP_TIMEOUT_S} s; check the network, run it again"
        ) from error
    if done.returncode == 0:
        return
    if "No module named pip" in done.stderr:
        raise BadInput(f"{sys.executable} has no pip; run: {sys.executable} -m ensurepip")
    reason = done.stderr.strip().split("\n")[-1] or "no message"
    raise Unreachable(
        f"pip could not fetch {wheel.package} {wheel.version}: {reason}; check the network and "
        "pip's index settings, then run it again"
    )
