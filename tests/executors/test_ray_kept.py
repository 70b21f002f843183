"""Pods on Ray nodes that share no folder: one of two dies, of the other Ray loses sight.

The nodes are on this machine, and each process of a pod has a folder and student servers of its
own. Nothing is written to the run's folder but by the campaign and its server. No key is in what
Ray knows or writes.
"""

import os
import secrets
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
LANGUAGES, CONTROLS = ["ada", "bea"], ["rowan", "sorrel"]


def test_pods_without_a_shared_folder_lose_their_nodes(
    ray_cluster: RayCluster,
    toy_root: DataRoot,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, nodes, secret = RunDir(tmp_path / "run"), tmp_path / "nodes", secrets.token_hex(16)
    monkeypatch.setenv("AARLAB_POD_SECRET", secret)
    with FakeModels(lost_node.training, lost_node.THINKS) as fake:
        monkeypatch.setenv("ANTHROPIC_API_KEY", fake.key)
        # No variable says on which node a job runs: each process of a pod has its own folder.
        own = [f"AARLAB_POD_SECRET={secret}", f'AARLAB_POD_FOLDER="{nodes}/$$"']
        keys = lost_node.key_file(tmp_path, fake, *own, devices=tmp_path_factory.mktemp("k"))
        options = {"host": "127.0.0.1", "poll_s": 0.5, "env_file": str(keys)}
        executor = {"name": "ray", "options": options, "aars_per_pod": 2, "devices_per_pod": 2}
        executor |= {"state": "kept"}
        spec = lost_node.in_pods(lost_node.spec_of(fake, executor, LANGUAGES, CONTROLS), PODS)
        course = lost_node.Course(toy_root, tmp_path, spec, ray_cluster.where)
        try:
            there = course.worked(LANGUAGES)
            first, second = there["ada"], there["bea"]
            assert first != second
            assert there == {name: there[PODS[pod][0]] for pod in PODS for name in PODS[pod]}
            hidden = [*lost_node.secrets_of(run), secret, fake.key]
            assert len(hidden) > 8
            assert not [one for one in hidden if ray_cluster.holds(one)]
            if os.geteuid() == 0:  # Ray holds the actors' commands
                assert "gcs_server" in ray_cluster.remembers("aarlab.campaign.pod")
            assert ray_cluster.remembers(*hidden) == []
            log = lost_node.log_of_kept(run, "pod-1")
            course.lose_two(fake, ray_cluster, first, second, log)
        finally:
            course.kill()
            for pod in PODS:
                lost_node.log_of_kept(run, pod).unlink(missing_ok=True)
        export = lost_node.check_whole(run, fake, kills=len(LANGUAGES), nodes=nodes)
        assert not [one for one in hidden if ray_cluster.holds(one)]
    [third] = ray_cluster.nodes
    spent = {aar.name: aar.spend.get("device_s", 0.0) for aar in export.aars}
    for pod, members in PODS.items():
        for name in members:
            assert course.seen[name] == [there[name], third], "it came up with its pod's others"
            newest, *older = lost_node.homes(nodes, name)
            assert not (run.aar(name) / "life").exists(), "no AAR works in the run's folder"
            if not older and name in CONTROLS:
                continue  # it was done before its node was lost
            assert len(older) == 1 and (newest / "life").read_text() == "2\n"
        language, control = members
        [home, _] = lost_node.homes(nodes, language)
        assert "continues from what life 1 kept" in (home / "aar.log").read_text()
        assert lost_node.results(run, language, lost_node.TRAINED) >= 2
        assert spent[control] > 0, "its trials ran on a student server"
        for device in range(2):
            logs = list(nodes.glob(f"*/{pod}-*/students-{pod}-{device}.log"))
            said = [log.read_text().count(f"serving students on cpu-{device} ") for log in logs]
            assert said == [1, 1], "one in each life"
    assert lost_node.events(run, "process_crashed") == [], "a lost node is no crash"
    assert processes_of(nodes) == []
