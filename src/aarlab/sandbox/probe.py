"""Can this machine isolate? Tried for real, before a campaign starts; says why not."""

import os
import sys
import tempfile
from pathlib import Path

from aarlab.core.errors import AarlabError, SandboxUnavailable
from aarlab.core.isolation import is_isolated
from aarlab.sandbox.devices import CHECKS, Device, system_files, with_device
from aarlab.sandbox.running import run
from aarlab.sandbox.spec import SandboxKind, SandboxLimits, SandboxSpec
from aarlab.sandbox.workspace import LAST_AAR, aar_uid, prepare_workspace

_ALTERNATIVE = (
    "Or run with --sandbox process, which isolates nothing and stamps every score 'not isolated'."
)
# sysctl file, the value that closes user namespaces, command that opens them
_SWITCHES = (
    ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0 (AppArmor)",
    ),
)


def probe(isolation: SandboxKind) -> None:
    """Run `true` in a sandbox; raises SandboxUnavailable with the reason and what to do."""
    with tempfile.TemporaryDirectory(prefix="aarlab-probe-") as folder:
        uid = aar_uid(LAST_AAR) if is_isolated(isolation) else None
        workspace = Path(folder) / "workspace"
        prepare_workspace(workspace, uid)
        limits = SandboxLimits(wall_s=20.0, cpu_s=20.0)
        spec = SandboxSpec(workspace, limits=limits, uid=uid, isolation=isolation)
        try:
            done = run(spec, ["/bin/sh", "-c", "echo inside"])
        except AarlabError as error:
            raise SandboxUnavailable(_explained(isolation, str(error))) from error
        if done.stdout != b"inside\n":
            said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
            raise SandboxUnavailable(_explained(isolation, f"a trial run failed: {said}"))


def probe_device(device: Device) -> None:
    """Have a device's library begin in a sandbox that sees it; raises SandboxUnavailable if not.

    Programs that only ask the driver work where CUDA itself fails.
    """
    with tempfile.TemporaryDirectory(prefix="aarlab-probe-") as folder:
        uid, workspace = aar_uid(LAST_AAR), Path(folder) / "workspace"
        prepare_workspace(workspace, uid)
        limits = SandboxLimits(wall_s=60.0, cpu_s=60.0)
        spec = SandboxSpec(workspace, limits=limits, uid=uid)
        spec = with_device(spec, device.nodes, system_files([device.maker]))
        done = run(spec, [sys.executable, "-c", CHECKS[device.maker]])
        if not done.ok:
            said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise SandboxUnavailable(f"{device.name} does not begin in a sandbox: {said}")


def _explained(isolation: SandboxKind, reason: str) -> str:
    if isolation == "process":
        return f"sandbox 'process' cannot run here: {reason}"
    remedies = closed_switches(Path("/proc/sys")) if os.geteuid() != 0 else []
    return " ".join([f"sandbox 'bubblewrap' cannot run here: {reason}.", *remedies, _ALTERNATIVE])


def closed_switches(sysctl: Path) -> list[str]:
    """Return one sentence per kernel setting that forbids user namespaces to ordinary users."""
    found = []
    for name, closed, remedy in _SWITCHES:
        path = sysctl / name
        if path.is_file() and path.read_text(encoding="utf-8").strip() == closed:
            setting = name.replace("/", ".")
            found.append(f"{setting} is {closed}: ask an administrator for `{remedy}`.")
    return found
