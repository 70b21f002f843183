"""`aarlab doctor`: what is installed, what is missing, and how to fix it."""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from aarlab import __version__
from aarlab.cli.options import AsJson, print_json
from aarlab.cli.settings import data_root, key_names
from aarlab.core.errors import AarlabError
from aarlab.core.extras import EXTRAS, LINUX_ONLY, install_command, missing, needs_linux
from aarlab.core.isolation import SANDBOX_KINDS

OLDEST = (3, 11)
GB = 1e9
# The demo's models, tasks and campaign take 0.5 GB, its processes about 2 GB of memory.
LOW_DISK_GB, LOW_MEMORY_GB = 2.0, 4.0
WHAT_FOR = {
    "testbed": "tasks, methods, models",
    "server": "campaigns, the dashboard, `aarlab log`",
    "sandbox": "running methods of AARs isolated from everything else",
    "report": "reports and figures",
    "sweep": "`aarlab testbed sweep`",
    "mlflow": "`aarlab report track --to mlflow`",
    "wandb": "`aarlab report track --to wandb`",
    "agents": "language-model AARs",
    "mcp": "AARs that join over MCP",
    "claude-code": "Claude Code as an AAR",
    "hub": "`aarlab task fetch` from the Hugging Face hub",
    "postgres": "PostgreSQL instead of SQLite",
    "s3": "snapshots on S3",
    "gpu": "critic_grpo and debate_grpo with LoRA",
    "vllm": "the same, faster, on a GPU",
}


class Finding(NamedTuple):
    """The result of a check.

    `state` is ok, note (something optional is missing) or error (aarlab cannot work).
    """

    what: str
    state: Literal["ok", "note", "error"]
    detail: str
    todo: str = ""


def doctor(as_json: AsJson = False) -> int:
    """Check what this machine has for aarlab, what is missing, and which command adds it.

    Exit code 2 where aarlab cannot work at all; a missing extra is a note.
    """
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _platform,
        _home,
        _machine,
        _sandbox,
        _extras,
        _torch,
        _models,
        _keys,
    )
    found = [finding for check in checks for finding in check()]
    if as_json:
        print_json([finding._asdict() for finding in found])
    else:
        _print(found)
    return 2 if any(finding.state == "error" for finding in found) else 0


def _print(found: list[Finding]) -> None:
    """Print one line per finding and one per remedy, unwrapped so that commands can be copied."""
    from rich.text import Text

    from aarlab.cli.terminal import Console

    colours = {"ok": "green", "note": "yellow", "error": "red"}
    width = max(len(finding.what) for finding in found)
    console = Console(highlight=False, soft_wrap=True)
    for finding in found:
        line = Text(f"{finding.state:5} ", style=colours[finding.state])
        line.append(f"{finding.what:{width}}  {finding.detail}", style="default")
        console.print(line)
        if finding.todo:
            console.print(f"{'':{width + 8}}-> {finding.todo}")


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    if sys.version_info < OLDEST:
        yield Finding("Python", "error", version, "install Python 3.11 or newer")
    else:
        yield Finding("Python", "ok", f"{version}, {sys.executable}")
    yield Finding("aarlab", "ok", f"{__version__}, {Path(__file__).parents[1]}")


def _platform() -> Iterator[Finding]:
    here = f"{platform.system()} {platform.release()} {platform.machine()}"
    if sys.platform != "linux":
        yield Finding("platform", "note", here, needs_linux(platform.system()))
        return
    yield Finding("platform", "ok", here)
    for program, package in (("setpriv", "util-linux"), ("git", "git")):
        if shutil.which(program) is None:
            yield Finding(program, "note", "not found", f"install the system package {package}")


def _home() -> Iterator[Finding]:
    """Check that AARLAB_HOME is writable and how much disk space is free.

    Creates and removes a file in it, or in its nearest existing parent.
    """
    try:
        home = data_root().path
    except AarlabError as error:
        yield Finding("AARLAB_HOME", "error", str(error), "set AARLAB_HOME to a folder")
        return
    there = next(path for path in (home, *home.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            free = shutil.disk_usage(there).free / GB
    except OSError as error:
        reason = f"{home}: {error.strerror}"
        yield Finding("AARLAB_HOME", "error", reason, "set AARLAB_HOME to a writable folder")
        return
    yield Finding(
        "AARLAB_HOME", "ok", str(home) + ("" if there == home else " (made on first use)")
    )
    low = free < LOW_DISK_GB
    todo = f"models and tasks need about {LOW_DISK_GB:g} GB: free some" if low else ""
    yield Finding("disk", "note" if low else "ok", f"{free:.1f} GB free", todo)


def _machine() -> Iterator[Finding]:
    import psutil

    memory = psutil.virtual_memory()
    low = memory.available / GB < LOW_MEMORY_GB
    yield Finding(
        "memory",
        "note" if low else "ok",
        f"{memory.available / GB:.1f} of {memory.total / GB:.1f} GB available",
        f"a campaign needs about {LOW_MEMORY_GB:g} GB: close other programs" if low else "",
    )
    yield Finding("cores", "ok", str(os.cpu_count() or "unknown"))


def _sandbox() -> Iterator[Finding]:
    """Run each kind of sandbox once. Yields no finding outside Linux."""
    if sys.platform != "linux":
        return
    from aarlab.sandbox.probe import probe

    for kind in SANDBOX_KINDS:
        try:
            probe(kind)
        except (AarlabError, OSError) as error:
            yield Finding(f"sandbox {kind}", "note", "cannot run here", str(error))
        else:
            yield Finding(f"sandbox {kind}", "ok", "a trial run worked")


def _extras() -> Iterator[Finding]:
    for extra in EXTRAS:
        if sys.platform != "linux" and extra in LINUX_ONLY:
            yield Finding(f"extra {extra}", "note", "Linux only")
        elif absent := missing(extra):
            detail = f"{', '.join(absent)} not installed; for {WHAT_FOR[extra]}"
            yield Finding(f"extra {extra}", "note", detail, install_command(extra))
        else:
            yield Finding(f"extra {extra}", "ok", WHAT_FOR[extra])


def _torch() -> Iterator[Finding]:
    """Report torch's version and whether an NVIDIA driver is present, without importing torch."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        build = version("torch")
    except PackageNotFoundError:
        return
    card = Path("/proc/driver/nvidia/version").exists()
    yield Finding("torch", "ok", f"{build}; {'an' if card else 'no'} NVIDIA driver is here")


def _models() -> Iterator[Finding]:
    try:
        root = data_root()
        kept = sorted(path.parent.name for path in root.models.glob("*/model.json"))
        files = [path for path in root.models.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files) / GB
    except (AarlabError, OSError):
        return  # `_home` reports it
    if kept:
        yield Finding("models", "ok", f"{', '.join(kept)}: {size:.2f} GB")
    else:
        yield Finding("models", "note", "none fetched yet", "aarlab models pull smollm2-135m")


def _keys() -> Iterator[Finding]:
    names = key_names()
    detail = f"{', '.join(names)} (names only)" if names else "none in the environment"
    yield Finding("model API keys", "ok", detail, "" if names else "needed by language AARs only")
