"""A real Slurm for tests: munged, slurmctld and slurmd on loopback, in a temporary folder.

It needs no systemd, no accounting and no root, and starts in a second.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
SlurmdParameters=config_overrides
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
KillWait=2
SlurmdTimeout=10
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=100000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def find(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")


class Slurm:
    """One controller and one node of 8 cores, which need not be there."""

    def __init__(self) -> None:
        if missing := [name for name in PROGRAMS if find(name) is None]:
            pytest.skip(f"no {missing[0]}: install slurmctld, slurmd, slurm-client and munge")
        self.folder = Path(tempfile.mkdtemp(prefix="aarlab-slurm-"))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        self.conf.write_text(
            CONF.format(
                folder=self.folder,
                host=socket.gethostname().partition(".")[0],
                user=pwd.getpwuid(os.getuid()).pw_name,
                ports=[_free_port(), _free_port()],
            )
        )

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
        self._spawn("slurmd", "-D")
        self._until(lambda: "idle" in self.say("sinfo", "-h", "-o", "%T"))

    def say(self, *words: str) -> str:
        done = subprocess.run(words, env=self._env(), capture_output=True, text=True, check=False)
        return done.stdout

    def signal(self, program: str, number: int) -> None:
        self._processes[program].send_signal(number)

    def remove(self) -> None:
        self.say("scancel", "--me")
        deadline = time.monotonic() + 20
        while self.say("squeue", "-h").strip() and time.monotonic() < deadline:
            time.sleep(0.1)
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
        with (self.folder / f"{program}.out").open("ab") as out:
            self._processes[program] = subprocess.Popen(
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
