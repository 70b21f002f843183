"""Ray nodes are lost in the middle of a campaign: their AARs continue on other nodes."""

from pathlib import Path

import lost_node
import pytest
from fake_models import FakeModels, Fault
from ray_cluster import RayCluster
from toy_campaign import processes_of

from aarlab.core.layout import DataRoot, RunDir

pytestmark = pytest.mark.gate
RAY_NODES = 3


def refused(run: RunDir, name: str) -> bool:
    """Whether an older copy of the AAR ended because a newer one has begun."""
    return "a newer process of" in run.aar_log(name).read_text()


def test_two_nodes_are_lost(
    ray_cluster: RayCluster, toy_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One dies; of the other Ray loses sight, and its AARs work on."""
    run = RunDir(tmp_path / "run")
    with FakeModels(lost_node.steady, lost_node.THINKS) as fake:
        monkeypatch.setenv("ANTHROPIC_API_KEY", fake.key)  # for the check before the start
        keys = lost_node.key_file(tmp_path, fake)
        options = {"host": "127.0.0.1", "poll_s": 0.5, "env_file": str(keys)}
        executor = {"name": "ray", "options": options, "cpus": 1}
        spec = lost_node.spec_of(fake, executor, ["ada", "bea"], ["rowan"])
        course = lost_node.Course(toy_root, tmp_path, spec, ray_cluster.where)
        course.until(lambda: min(lost_node.calls(run, name) for name in ("ada", "bea")) >= 3)
        there = ray_cluster.where()
        fake.replan([Fault("slow", every=1, wait_s=2.0)])  # the old copy lives to see the new one
        ray_cluster.lose(there["ada"], whole=False)
        ray_cluster.lose(there["bea"])
        course.until(lambda: refused(run, "ada") and lost_node.lives(run)["bea"] == 2)
        fake.replan([])
        course.end()
        secrets = [fake.key, *(path.read_text().strip() for path in run.tokens.iterdir())]
        assert len(secrets) > 3 and not [each for each in secrets if ray_cluster.holds(each)]
        export = lost_node.check_whole(run, fake, kills=2)
    assert there["ada"] != there["bea"]
    [third] = ray_cluster.nodes
    for name in ("ada", "bea"):
        assert course.seen[name] == [there[name], third], "it came up on another node"
        assert refused(run, name) == (name == "ada"), "the old copy that lived on"
    moved = {name for name, node in there.items() if node != third}
    lives = lost_node.lives(run)
    assert lives == {name: 2 if name in moved else 1 for name in ("ada", "bea", "rowan")}
    assert lost_node.events(run, "process_crashed") == [], "a lost node is no crash of the AAR"
    assert {s.aar for s in export.submissions} == {"ada", "bea", "rowan"}
    assert export.ending is not None and export.ending.value == "finished"
    assert processes_of(run.path) == []
