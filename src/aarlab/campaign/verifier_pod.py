"""`python -m aarlab.campaign.verifier_pod POD`: re-runs on one machine, as one job of an engine.

The pod joins the platform under a key of its own, makes a private folder on this machine, starts a
student server for each of its devices and the verifier that does the re-runs (verify.node), and
ends with it. Whether the machines share a folder makes no difference: all that a re-run reads comes
from the platform. POD is JSON, in which the key is sealed or named as a file.

Covered: SIGTERM, at which re-runs are given back; SIGUSR1, the notice of an engine, likewise; an
older copy of the pod; what a killed pod left on this machine, which the next one removes.
Not covered: who reads the folder as the same user, and a machine on which no pod starts again.
"""

import ctypes
import fcntl
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pydantic import ValidationError

from aarlab.campaign.aars import VERIFIERS
from aarlab.campaign.node import PodBoot, pods_folder
from aarlab.campaign.pod import ROUND_S
from aarlab.campaign.processes import Child
from aarlab.campaign.spec import CampaignSpec, parse_spec
from aarlab.campaign.students import Share, student_server
from aarlab.client.verifier import VerifierClient
from aarlab.core.errors import AarlabError, Superseded
from aarlab.core.files import write_atomic
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.logs import log_to_stderr
from aarlab.core.supervision import SUPERSEDED
from aarlab.executors.base import LEFT
from aarlab.executors.local import SETPRIV, LocalHandle
from aarlab.sandbox.reaper import PR_SET_CHILD_SUBREAPER, end_descendants
from aarlab.sandbox.workspace import discard_tree

LOG = logging.getLogger("aarlab.pod")
PRIVATE = 0o600
END_S = 6.0  # for its sandboxes to end; executors wait longer before they kill the pod


@contextmanager
def private_folder(top: Path, name: str) -> Iterator[Path]:
    """Yield a new folder of this process, locked until the end of the block, then removed.

    What processes that are gone have left is removed first.
    """
    folder = top / f"{name}-{os.getpid()}-{time.time_ns():x}"
    with _locked(top / f".{VERIFIERS}lock"):
        for left in top.glob(f"{VERIFIERS}*"):
            _remove_if_left(left)
        folder.mkdir(mode=0o711)
        held = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
        fcntl.flock(held, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        discard_tree(folder)
        os.close(held)


def _remove_if_left(folder: Path) -> None:
    try:
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)  # it was being made, or removed
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        discard_tree(folder)
    except BlockingIOError:
        pass  # its process lives
    finally:
        os.close(handle)


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def laid_out(boot: PodBoot, run: RunDir) -> tuple[int, CampaignSpec]:
    """Join the platform; write key, CA and spec into the folder. Return number and spec."""
    key = boot.opened_key()
    run.platform.mkdir(mode=0o700)
    run.tls.mkdir()
    if boot.ca:
        write_atomic(run.tls / "ca.pem", boot.ca)
    write_atomic(_key_file(run), key + "\n", PRIVATE)
    with VerifierClient(boot.address(run), key, boot.name) as platform:
        given = platform.join()
    write_atomic(run.spec, given.spec, PRIVATE)
    return given.number, parse_spec(json.loads(given.spec)["campaign"], "the campaign's spec")


def _key_file(run: RunDir) -> Path:
    return run.platform / "key"


def verifier_argv(
    boot: PodBoot, run: RunDir, number: int, spec: CampaignSpec, students: list[Path]
) -> list[str]:
    argv = [sys.executable, "-m", "aarlab.verify.node", "--pod", boot.name]
    argv += ["--number", str(number), "--run", str(run.path), "--root", str(boot.root)]
    argv += ["--key-file", str(_key_file(run)), "--isolation", spec.isolation]
    argv += ["--parallel", str(spec.verify.parallel), "--memory-mb", str(spec.most_memory_mb)]
    argv += ["--url", boot.url] if boot.url else ["--socket", str(boot.socket)]
    argv += ["--ca", str(run.tls / "ca.pem")] if boot.ca else []
    return argv + [word for one in students for word in ("--students", str(one))]


def serve(boot: PodBoot, told: list[int]) -> int:
    """Do re-runs until a signal is in `told`, or the verifier ends; return the exit code."""
    with private_folder(pods_folder(), boot.name) as folder, ExitStack() as opened:
        run = RunDir(folder)
        number, spec = laid_out(boot, run)
        root = DataRoot(boot.root, pinned=run.task_versions())
        servers, sockets = list[Child](), list[Path]()
        for device in range(boot.devices):
            share = Share(f"{boot.name}-{device}", (), device if boot.devices > 1 else None)
            students = opened.enter_context(student_server(run, root, spec, share))
            assert students is not None
            servers += students.children
            sockets += students.access.sockets
        argv = verifier_argv(boot, run, number, spec, sockets)
        dies = [SETPRIV, "--pdeathsig", "KILL", "--"]  # with this process, however it ends
        child = subprocess.Popen([*dies, *argv], stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            while True:
                if (code := child.poll()) is not None:
                    return code or 1  # it was not asked to end
                if told:
                    return LEFT if told[-1] == signal.SIGUSR1 else 128 + told[-1]
                for server in servers:
                    server.poll()
                time.sleep(ROUND_S)
        finally:
            LocalHandle(child).stop(END_S)


def main(argv: list[str]) -> int:
    log_to_stderr("INFO")
    logging.getLogger("httpx").setLevel("WARNING")
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    told = list[int]()
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda which, _frame: told.append(which))
    try:
        return serve(PodBoot.model_validate_json(argv[0]), told)
    except Superseded as error:
        LOG.error("the pod stopped: %s", error)
        return SUPERSEDED
    except (AarlabError, ValidationError, OSError):
        LOG.exception("the pod stopped")
        return 1
    finally:
        end_descendants()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
