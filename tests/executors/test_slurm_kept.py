"""Pods on Slurm nodes that share no folder: of two nodes one dies, Slurm loses sight of the other.

The nodes are on this machine, and each has a folder of its own. Nothing is written to the run's
folder but by the campaign and its server.
"""

import secrets
from pathlib import Path

import lost_node
import pytest
from fake_models import FakeModels, Fault
from slurm import Slurm

from aarlab.core.hashing import sha256_hex
from aarlab.core.layout import DataRoot, RunDir

pytestmark = pytest.mark.gate
PODS = {"pod-1": ["ada", "bea"], "pod-2": ["cleo", "dora"]}
AARS = [name for members in PODS.values() for name in members]


def log_of(run: RunDir, pod: str) -> Path:
    """Where Slurm writes on a node what the processes of a pod say."""
    mark = sha256_hex(str(run.pod(pod).absolute()))[:8]
    return Path("/tmp") / f"aarlab-cluster-{pod}-{mark}.log"


def said(nodes: Path, node: str, name: str) -> str:
    """The log of an AAR on one node."""
    [log] = nodes.glob(f"{node}/*/aars/{name}/aar.log")
    return log.read_text()


def test_pods_without_a_shared_folder_lose_their_nodes(
    cluster: Slurm, toy_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, nodes, secret = RunDir(tmp_path / "run"), tmp_path / "nodes", secrets.token_hex(16)
    monkeypatch.setenv("AARLAB_POD_SECRET", secret)
    with FakeModels(lost_node.steady, lost_node.THINKS) as fake:
        monkeypatch.setenv("ANTHROPIC_API_KEY", fake.key)
        own = [f"AARLAB_POD_SECRET={secret}", f'AARLAB_POD_FOLDER="{nodes}/$SLURMD_NODENAME"']
        keys = lost_node.key_file(tmp_path, fake, *own)
        options = {"host": "127.0.0.1", "poll_s": 0.5, "env_file": str(keys)}
        executor = {"name": "slurm", "options": options, "aars_per_pod": 2, "state": "kept"}
        spec = lost_node.spec_of(fake, executor, AARS, [])
        course = lost_node.Course(toy_root, tmp_path, spec, cluster.where)
        try:
            course.until(lambda: min(lost_node.calls(run, name) for name in AARS) >= 3)
            there = cluster.where()
            assert set(there) == set(PODS) and len(set(there.values())) == 2
            hidden = [path.read_text().strip() for path in run.tokens.iterdir()]
            hidden += [path.read_text().strip() for path in (run.platform / "pods").iterdir()]
            assert not [one for one in [*hidden, secret, fake.key] if cluster.holds(one)]
            fake.replan([Fault("slow", every=1, wait_s=2.0)])  # the old pod lives to see the new
            cluster.lose(there["pod-1"], whole=False)
            cluster.lose(there["pod-2"])
            course.until(lambda: "stopped: a newer process" in log_of(run, "pod-1").read_text())
            fake.replan([])
            course.end()
        finally:
            course.kill()
            for pod in PODS:
                log_of(run, pod).unlink(missing_ok=True)
        lost_node.check_whole(run, fake, kills=len(AARS), nodes=nodes)
    [third] = set(cluster.nodes) - set(there.values())
    assert course.seen == {pod: [node, third] for pod, node in there.items()}
    for pod, members in PODS.items():
        for name in members:
            newest, oldest = lost_node.homes(nodes, name)
            assert nodes / third in newest.parents and nodes / there[pod] in oldest.parents
            assert "continues from what life 1 kept" in said(nodes, third, name)
            assert not (run.aar(name) / "life").exists(), "no AAR works in the run's folder"
    assert lost_node.events(run, "process_crashed") == [], "a lost node is no crash"
