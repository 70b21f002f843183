"""Pods on Slurm: of two nodes with a pod each, one dies, and Slurm loses sight of the other."""

import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import lost_node
import pytest
import yaml
from fake_models import FakeModels, Fault
from slurm import Slurm
from toy_campaign import command, finished

from aarlab.core.layout import DataRoot, RunDir

pytestmark = pytest.mark.gate
PODS = {"pod-1": ["ada", "bea"], "pod-2": ["cleo", "dora"]}
AARS = [name for members in PODS.values() for name in members]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    made = Slurm(nodes=3)
    monkeypatch.setenv("SLURM_CONF", str(made.conf))
    try:
        made.start()
        yield made
    finally:
        made.remove()


def test_two_pods_lose_their_nodes(
    cluster: Slurm, toy_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, seen = RunDir(tmp_path / "run"), defaultdict[str, list[str]](list)
    with FakeModels(lost_node.steady, lost_node.THINKS) as fake:
        monkeypatch.setenv("ANTHROPIC_API_KEY", fake.key)
        keys = lost_node.key_file(tmp_path, fake)
        options = {"host": "127.0.0.1", "poll_s": 0.5, "env_file": str(keys)}
        executor = {"name": "slurm", "options": options, "aars_per_pod": 2}
        spec = lost_node.spec_of(fake, executor, AARS, [])
        spec["verify"]["top"] = 0
        (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
        words = ("campaign", "run", str(tmp_path / "spec.yaml"), "--out", str(run.path))
        process = command(toy_root, *words)

        def look() -> None:
            for name, node in cluster.where().items():
                if node not in seen[name]:
                    seen[name].append(node)
            time.sleep(0.2)

        try:
            while min(lost_node.calls(run, name) for name in AARS) < 3:
                assert process.poll() is None, finished(process)
                look()
            there = cluster.where()
            assert set(there) == set(PODS) and len(set(there.values())) == 2
            fake.replan([Fault("slow", every=1, wait_s=2.0)])  # the old pod lives to see the new
            cluster.lose(there["pod-1"], whole=False)
            cluster.lose(there["pod-2"])
            log = run.pod("pod-1") / "pod.log"
            while "a newer process of" not in log.read_text():
                assert process.poll() is None, finished(process)
                look()
            while min(lost_node.lives(run).values()) < 2:
                assert process.poll() is None, finished(process)
                look()
            fake.replan([])
            while process.poll() is None:
                look()
            code, out = finished(process)
        finally:
            process.kill()
        assert code == 0, out
        lost_node.check_whole(run, fake, kills=len(AARS))
    [third] = set(cluster.nodes) - set(there.values())
    assert seen == {pod: [node, third] for pod, node in there.items()}
    assert lost_node.events(run, "process_crashed") == [], "a lost node is no crash"
