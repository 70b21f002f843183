"""Pods on Slurm nodes that share no folder: one of two dies, of the other Slurm loses sight.

The nodes are on this machine, and each has a folder of its own. Nothing is written to the run's
folder but by the campaign and its server. Each pod has a student server.
"""

import secrets
from pathlib import Path

import lost_node
import pytest
from fake_models import FakeModels
from slurm import Slurm
from toy_campaign import processes_of

from aarlab.core.layout import DataRoot, RunDir

pytestmark = pytest.mark.gate
PODS = {"pod-1": ["ada", "rowan"], "pod-2": ["bea", "sorrel"]}
LANGUAGES, CONTROLS = ["ada", "bea"], ["rowan", "sorrel"]


def said(nodes: Path, node: str, name: str) -> str:
    """The log of an AAR on one node."""
    [log] = nodes.glob(f"{node}/*/aars/{name}/aar.log")
    return log.read_text()


def test_pods_without_a_shared_folder_lose_their_nodes(
    cluster: Slurm,
    toy_root: DataRoot,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, nodes, secret = RunDir(tmp_path / "run"), tmp_path / "nodes", secrets.token_hex(16)
    monkeypatch.setenv("AARLAB_POD_SECRET", secret)
    with FakeModels(lost_node.training, lost_node.THINKS) as fake:
        monkeypatch.setenv("ANTHROPIC_API_KEY", fake.key)
        own = [f"AARLAB_POD_SECRET={secret}", f'AARLAB_POD_FOLDER="{nodes}/$SLURMD_NODENAME"']
        keys = lost_node.key_file(tmp_path, fake, *own, devices=tmp_path_factory.mktemp("k"))
        options = {"host": "127.0.0.1", "poll_s": 0.5, "env_file": str(keys)}
        executor = {"name": "slurm", "options": options, "aars_per_pod": 2, "state": "kept"}
        spec = lost_node.in_pods(lost_node.spec_of(fake, executor, LANGUAGES, CONTROLS), PODS)
        course = lost_node.Course(toy_root, tmp_path, spec, cluster.where)
        try:
            there = course.worked(LANGUAGES)
            assert set(there) == set(PODS) and len(set(there.values())) == 2
            hidden = [*lost_node.secrets_of(run), secret, fake.key]
            assert len(hidden) > 8 and not [one for one in hidden if cluster.holds(one)]
            log = lost_node.log_of_kept(run, "pod-1")
            course.lose_two(fake, cluster, there["pod-1"], there["pod-2"], log)
        finally:
            course.kill()
            for pod in PODS:
                lost_node.log_of_kept(run, pod).unlink(missing_ok=True)
        export = lost_node.check_whole(run, fake, kills=len(LANGUAGES), nodes=nodes)
    [third] = set(cluster.nodes) - set(there.values())
    assert course.seen == {pod: [node, third] for pod, node in there.items()}
    spent = {aar.name: aar.spend.get("device_s", 0.0) for aar in export.aars}
    for pod, members in PODS.items():
        for name in members:
            newest, *older = lost_node.homes(nodes, name)
            assert not (run.aar(name) / "life").exists(), "no AAR works in the run's folder"
            if not older and name in CONTROLS:
                continue  # it was done before its node was lost
            [oldest] = older
            assert nodes / third in newest.parents and nodes / there[pod] in oldest.parents
        language, control = members
        assert "continues from what life 1 kept" in said(nodes, third, language)
        assert lost_node.results(run, language, lost_node.TRAINED) >= 2
        assert spent[control] > 0, "its trials ran on a student server"
        for node in (there[pod], third):
            [log] = nodes.glob(f"{node}/{pod}-*/students-{pod}-0.log")
            assert log.read_text().count("serving students on cpu ") == 1, "one in each life"
    assert lost_node.events(run, "process_crashed") == [], "a lost node is no crash"
    assert processes_of(nodes) == []
