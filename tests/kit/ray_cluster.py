"""A real Ray for tests: a head that runs nothing and nodes of its own, all on this machine.

A process of its own holds it (`ray.cluster_utils.Cluster`), so that tests do not import Ray. It
starts in about 10 s.
"""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

# A node that is killed counts as lost after 3 s. By default that takes 15 s and more.
HEALTH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}
STORE_BYTES = 80 * 2**20


class RayCluster:
    """A head and nodes with so many cores each, which need not be there."""

    def __init__(self, nodes: int = 1, cpus: int = 8) -> None:
        if importlib.util.find_spec("ray") is None:
            pytest.skip("no ray: pip install ray")
        self.size = (nodes, cpus)
        self._lost: list[psutil.Process] = []
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `remove`
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "--", sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **QUIET},
            start_new_session=True,
        )
        said = self._ask("start", *self.size)
        self.address, self.session = str(said["address"]), Path(said["session"])
        self.raylets = [psutil.Process(pid) for pid in said["raylets"]]

    @property
    def nodes(self) -> dict[str, psutil.Process]:
        """The raylets by name, without those that were lost."""
        named = {f"node{index}": each for index, each in enumerate(self.raylets, 1)}
        return {name: each for name, each in named.items() if each not in self._lost}

    def where(self) -> dict[str, str]:
        """Return the node of each AAR that has a process, by the AAR's name."""
        found = {}
        for node, raylet in self.nodes.items():
            for each in raylet.children(recursive=True):
                with suppress(psutil.Error):  # it has ended meanwhile
                    words = each.cmdline()
                    if "aarlab.agents" in words and words[0] != "setpriv":
                        config = words[words.index("aarlab.agents") + 1]
                        found[Path(config).parent.name] = node
        return found

    def lose(self, node: str, whole: bool = True) -> None:
        """Kill a node's raylet; or, if not `whole`, halt all of Ray there: its AARs live on."""
        raylet = self.nodes[node]
        self._lost.append(raylet)
        for each in (raylet,) if whole else (raylet, *raylet.children()):
            each.send_signal(signal.SIGKILL if whole else signal.SIGSTOP)

    def holds(self, words: str) -> list[Path]:
        """Return the files of Ray's folder for this cluster, logs among them, that hold words."""
        files = [path for path in self.session.rglob("*") if path.is_file()]
        assert [path for path in files if path.suffix == ".out" and b"raylet" in path.read_bytes()]
        return [path for path in files if words.encode() in path.read_bytes()]

    def remembers(self, *words: str) -> list[str]:
        """Return the processes of Ray, head and raylets, that hold any of these in their memory.

        All that Ray's state API shows is there, and more: an actor's arguments. Only root may look:
        for others there are none.
        """
        if os.geteuid() != 0:
            return []
        heads = [p for p in psutil.process_iter() if p.name() == "gcs_server"]
        ours = [p for p in heads if any(str(self.session) in word for word in p.cmdline())]
        assert ours
        found = [
            p
            for p in (*ours, *self.nodes.values())
            if _in_memory(p.pid, [w.encode() for w in words])
        ]
        return [process.name() for process in found]

    def add_node(self) -> None:
        self.raylets.append(psutil.Process(self._ask("add", self.size[1])))

    def node_of(self, pid: int) -> psutil.Process:
        """Return the raylet of the node on which a process runs."""
        parents = psutil.Process(pid).parents()
        return next(each for each in parents if each in self.raylets)

    def remove(self) -> None:
        """End all of it. May be called again, and before the start."""
        if self._process is None:
            return
        for halted in self._lost:
            with suppress(psutil.Error):
                halted.kill()
        try:
            self._process.communicate("", timeout=60)
        finally:
            self._process.kill()
            self._process = None
            self._errors.close()

    def _ask(self, *words: object) -> Any:
        assert self._process and self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise AssertionError(self._errors.read()[-3000:].decode())
        return json.loads(line)


def _in_memory(pid: int, words: list[bytes]) -> bool:
    """Search what a process alone may write to."""
    lines = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines()
    areas = [line.split()[0] for line in lines if line.split()[1] == "rw-p"]
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for first, last in (map(_hex, area.split("-")) for area in areas):
            memory.seek(first)
            with suppress(OSError):  # freed meanwhile
                held = memory.read(last - first)
                if any(word in held for word in words):
                    return True
    return False


def _hex(text: str) -> int:
    return int(text, 16)


def hold() -> None:
    """Hold a cluster and do what standard input says, until it ends."""
    from ray.cluster_utils import Cluster

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": HEALTH}
    cluster = Cluster(initialize_head=True, head_node_args=head)

    def add(cpus: int) -> int:
        for dead in [each for each in cluster.worker_nodes if raylet(each).poll() is not None]:
            cluster.worker_nodes.discard(dead)  # else it is waited for below
        node = cluster.add_node(num_cpus=cpus, object_store_memory=STORE_BYTES, wait=False)
        return int(raylet(node).pid)

    def raylet(node: Any) -> Any:
        return node.all_processes["raylet"][0].process

    try:
        for line in sys.stdin:
            what, *sizes = json.loads(line)
            said: object = None
            if what == "start":
                raylets = [add(sizes[1]) for _ in range(sizes[0])]
                session = cluster.head_node.get_session_dir_path()
                said = {"address": cluster.address, "session": session, "raylets": raylets}
            elif what == "add":
                said = add(sizes[0])
            cluster.wait_for_nodes()
            print(json.dumps(said), file=answers, flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    hold()
