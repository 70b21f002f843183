"""Pods on Slurm: of two nodes with a pod each, one dies, and Slurm loses sight of the other."""

from pathlib import Path

import lost_node
import pytest
from fake_models import FakeModels
from slurm import Slurm

from aarlab.core.layout import DataRoot, RunDir

pytestmark = pytest.mark.gate
PODS = {"pod-1": ["ada", "bea"], "pod-2": ["cleo", "dora"]}
AARS = [name for members in PODS.values() for name in members]


def test_two_pods_lose_their_nodes(
    cluster: Slurm, toy_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(tmp_path / "run")
    with FakeModels(lost_node.steady, lost_node.THINKS) as fake:
        monkeypatch.setenv("ANTHROPIC_API_KEY", fake.key)
        keys = lost_node.key_file(tmp_path, fake)
        options = {"host": "127.0.0.1", "poll_s": 0.5, "env_file": str(keys)}
        executor = {"name": "slurm", "options": options, "aars_per_pod": 2}
        spec = lost_node.spec_of(fake, executor, AARS, [])
        course = lost_node.Course(toy_root, tmp_path, spec, cluster.where)
        try:
            there = course.worked(AARS)
            assert set(there) == set(PODS) and len(set(there.values())) == 2
            log = run.pod("pod-1") / "pod.log"
            course.lose_two(fake, cluster, there["pod-1"], there["pod-2"], log)
        finally:
            course.kill()
        lost_node.check_whole(run, fake, kills=len(AARS))
    [third] = set(cluster.nodes) - set(there.values())
    assert course.seen == {pod: [node, third] for pod, node in there.items()}
    assert set(lost_node.lives(run).values()) == {2}
    assert lost_node.events(run, "process_crashed") == [], "a lost node is no crash"
