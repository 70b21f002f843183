"""Pods on Ray with two student servers each: one node dies, and Ray loses sight of another."""

from pathlib import Path

import lost_node
import pytest
from fake_models import FakeModels
from ray_cluster import RayCluster
from toy_campaign import processes_of

from aarlab.core.layout import DataRoot, RunDir

pytestmark = pytest.mark.gate
RAY_NODES = 3
PODS = {"pod-1": ["ada", "rowan"], "pod-2": ["bea", "sorrel"]}
AARS, LANGUAGES = [name for members in PODS.values() for name in members], ["ada", "bea"]


def test_two_pods_lose_their_nodes(
    ray_cluster: RayCluster,
    toy_root: DataRoot,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = RunDir(tmp_path / "run")
    with FakeModels(lost_node.steady, lost_node.THINKS) as fake:
        monkeypatch.setenv("ANTHROPIC_API_KEY", fake.key)
        keys = lost_node.key_file(tmp_path, fake, devices=tmp_path_factory.mktemp("k"))
        options = {"host": "127.0.0.1", "poll_s": 0.5, "env_file": str(keys)}
        executor = {"name": "ray", "options": options, "aars_per_pod": 2, "devices_per_pod": 2}
        spec = lost_node.spec_of(fake, executor, LANGUAGES, ["rowan", "sorrel"])
        spec = lost_node.in_pods(spec, PODS)
        course = lost_node.Course(toy_root, tmp_path, spec, ray_cluster.where)
        try:
            there = course.worked(LANGUAGES)
            first, second = there["ada"], there["bea"]
            assert first != second
            assert there == {name: there[PODS[pod][0]] for pod in PODS for name in PODS[pod]}
            course.lose_two(fake, ray_cluster, first, second, run.pod("pod-1") / "pod.log")
        finally:
            course.kill()
        export = lost_node.check_whole(run, fake, kills=2)
    [third] = ray_cluster.nodes
    for name in AARS:
        assert course.seen[name] == [there[name], third], "it came up with its pod's other AARs"
        again = lost_node.lives(run)[name] == 2
        assert again or name not in LANGUAGES, "a control may be done before its node is lost"
    assert lost_node.events(run, "process_crashed") == [], "a lost node is no crash"
    spent = {aar.name: aar.spend.get("device_s", 0.0) for aar in export.aars}
    for number, pod in enumerate(PODS, 1):
        assert spent[PODS[pod][1]] > 0, "its trials ran on a student server"
        for device in range(2):
            said = (run.path / f"students-pod-{number}-{device}.log").read_text()
            assert said.count(f"serving students on cpu-{device} ") == 2, "one in each pod"
    assert processes_of(run.path) == []
