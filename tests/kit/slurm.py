"""A real Slurm for tests: munged, slurmctld and slurmds on loopback, in a temporary folder.

It needs no systemd, no accounting and no root, and starts in a second. Its nodes share this
machine, each with a slurmd of its own; `lose` takes one away.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
SlurmdParameters=config_overrides
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
KillWait=2
SlurmdTimeout={patience}
MessageTimeout={patience}
TCPTimeout=2
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
PartitionName=main Nodes=ALL Default=YES LLN=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=8 RealMemory=100000"


def find(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")


class Slurm:
    """One controller and nodes of 8 cores, which need not be there; jobs go to the emptiest."""

    def __init__(self, nodes: int = 1) -> None:
        if missing := [name for name in PROGRAMS if find(name) is None]:
            pytest.skip(f"no {missing[0]}: install slurmctld, slurmd, slurm-client and munge")
        self.folder = Path(tempfile.mkdtemp(prefix="aarlab-slurm-"))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._left: list[psutil.Process] = []  # on a node that was lost
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        self.nodes = [f"n{number + 1}" for number in range(nodes)]
        host, user = socket.gethostname().partition(".")[0], pwd.getpwuid(os.getuid()).pw_name
        given = {"folder": self.folder, "host": host, "user": user, "port": _free_port()}
        text = CONF.format(
            **given, patience=10 if nodes == 1 else 5
        )  # seconds; 16 until a node is down
        lines = [NODE.format(name=name, host=host, port=_free_port()) for name in self.nodes]
        self.conf.write_text(text + "\n".join(lines) + "\n")

    @property
    def conf(self) -> Path:
        return self.folder / "slurm.conf"

    def start(self) -> None:
        files = {"key-file": "munge.key", "socket": "munge.sock", "pid-file": "munged.pid"}
        files |= {"log-file": "munged.log", "seed-file": "munge.seed"}
        words = [f"--{name}={self.folder / file}" for name, file in files.items()]
        self._spawn("munged", "--foreground", "--force", *words)
        self._until(lambda: (self.folder / "munge.sock").exists())
        self._spawn("slurmctld", "-D", "-c")
        for name in self.nodes:
            self._spawn("slurmd", "-D", "-N", name)
        idle = {(name, "idle") for name in self.nodes}
        self._until(lambda: set(self.states().items()) == idle)

    def states(self) -> dict[str, str]:
        """The state of each node, such as idle, mixed, down or down*."""
        rows = self.say("sinfo", "-h", "-N", "-o", "%N %T").splitlines()
        return {name: state for name, state in (row.split() for row in rows)}

    def say(self, *words: str) -> str:
        done = subprocess.run(words, env=self._env(), capture_output=True, text=True, check=False)
        return done.stdout

    def signal(self, program: str, number: int) -> None:
        self._processes[program].send_signal(number)

    def where(self) -> dict[str, str]:
        """The node of each AAR whose job runs."""
        rows = self.say("squeue", "-h", "-t", "R", "-o", "%j %N").splitlines()
        return {name.split("-", 2)[2]: node for name, node in (row.split() for row in rows)}

    def holds(self, secret: str) -> bool:
        """Whether a file of Slurm's, such as a job's saved environment, holds the text."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return any(secret.encode() in path.read_bytes() for path in files)

    def lose(self, node: str, whole: bool = True) -> None:
        """Kill a node with all that runs on it, or its slurmd alone: then its jobs live on."""
        found = self.processes(node) if whole else []
        self._left += [] if whole else self.processes(node)
        lost = self._processes.pop(f"slurmd {node}")
        lost.kill()
        lost.wait()
        _kill(found)

    def processes(self, node: str) -> list[psutil.Process]:
        """The jobs on a node: their slurmstepd, their processes, and those in sandboxes."""
        found = {}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                seen = process.environ()
                if (seen.get("SLURM_CONF"), seen.get("SLURMD_NODENAME")) == (str(self.conf), node):
                    above = [p for p in process.parents() if p.name() == "slurmstepd"]
                    below = process.children(recursive=True)
                    found |= {each.pid: each for each in (*above, process, *below)}
        return list(found.values())

    def remove(self) -> None:
        self.say("scancel", "--me")
        deadline = time.monotonic() + 20
        while self.say("squeue", "-h").strip() and time.monotonic() < deadline:
            time.sleep(0.1)
        _kill(self._left)
        for process in reversed(self._processes.values()):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _env(self) -> dict[str, str]:
        return {**os.environ, "SLURM_CONF": str(self.conf)}

    def _spawn(self, program: str, *words: str) -> None:
        name = " ".join([program, *words[2:]])  # of slurmd: with its node
        with (self.folder / f"{program}.out").open("ab") as out:
            self._processes[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", find(program) or program, *words],
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                env=self._env(),
            )

    def _until(self, true: object) -> None:
        assert callable(true)
        deadline = time.monotonic() + 30
        while not true():
            said = "\n".join(p.read_text()[-800:] for p in self.folder.glob("*.out"))
            assert time.monotonic() < deadline, said
            time.sleep(0.05)


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
