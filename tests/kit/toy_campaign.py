"""A campaign in miniature: real server, AAR processes and sandboxes on Gaussian features."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import seeded_command
from gaussian_task import make_task, other_hand, with_twins
from method_world import OPTIONS
from verify_secret import fix_secret

from aarlab.campaign.spec import AarSpec, CampaignSpec, VerifySpec
from aarlab.core.layout import DataRoot
from aarlab.core.wire import Limits
from aarlab.testbed.students.baselines import Sources
from aarlab.testbed.tasks.build import build_task

TRIALS = 3
SECOND = "gauss-two"


def build_toy(home: Path) -> DataRoot:
    root = DataRoot(home)
    data, source = make_task()
    data = with_twins(data, source, other_hand)
    build_task(data, OPTIONS, root, Sources(source, source))
    fix_secret(root)
    return root


def add_second_task(root: DataRoot) -> None:
    """Another development task of the same kind, with rows of its own.

    The gap between its weak teacher and its ceiling is wide enough that a good method ranks with
    four seeds.
    """
    data, source = make_task(seed=4)
    build_task(replace(data, name=SECOND), OPTIONS, root, Sources(source, source))


def toy_spec() -> CampaignSpec:
    return CampaignSpec(
        name="toy",
        tasks=["gauss"],
        aars=[
            AarSpec(name="rowan", researcher="random", direction="elicitation", seed=3),
            AarSpec(name="edda", researcher="evolutionary", direction="combining", seed=4),
            AarSpec(
                name="human", researcher="fixed", role="human", arm="human", methods=["vanilla"]
            ),
            AarSpec(
                name="guards",
                researcher="fixed",
                role="guard",
                arm="guard",
                methods=["guard_length"],
            ),
        ],
        limits=Limits(submissions=TRIALS),
        seeds_per_submission=2,
        verify=VerifySpec(top=2, ablate_top=1, seeds=4),
    )


EXPECTED_SUBMISSIONS = 2 * TRIALS + 2
# top, baseline and guard, three ablations of the best, the best-ranked on certify
EXPECTED_VERIFICATIONS = 2 + 2 + 3 + 1


def command(root: DataRoot, *words: str, seeded: bool = False) -> subprocess.Popen[bytes]:
    """The real command in a process of its own, in its own process group.

    With `seeded`, verified runs get the same seeds each time: for tests that assert figures.
    A shell's background job ignores Ctrl-C and hands that on; the command must not inherit it.
    """
    return subprocess.Popen(
        [sys.executable, *([seeded_command.__file__] if seeded else ["-m", "aarlab.cli"]), *words],
        env={**os.environ, "AARLAB_HOME": str(root.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finished(process: subprocess.Popen[bytes], timeout_s: float = 240) -> tuple[int, str]:
    out, _ = process.communicate(timeout=timeout_s)
    return process.returncode, out.decode()


def processes_of(run: Path) -> list[psutil.Process]:
    """Everything alive whose command line names the run's folder."""
    found = []
    for process in psutil.process_iter():
        try:
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and any(str(run) in word for word in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def kill_one(run: Path, module: str, number: int = signal.SIGKILL) -> bool:
    """End a process of the campaign that runs `module`; False if there is none just now."""
    for process in processes_of(run):
        if module in process.cmdline() and "setpriv" not in process.cmdline()[0]:
            process.send_signal(number)
            return True
    return False
