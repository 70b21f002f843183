"""A Slurm node is lost in the middle of a campaign: its AARs continue on other nodes."""

from pathlib import Path

import lost_node
import pytest
from fake_models import FakeModels, Fault
from slurm import Slurm

from aarlab.core.layout import DataRoot, RunDir

pytestmark = pytest.mark.gate


def refused(run: RunDir, name: str) -> bool:
    """Whether an older copy of the AAR ended because a newer one has begun."""
    return "a newer process of" in (run.aar(name) / "aar.log").read_text()


def test_two_nodes_are_lost(
    cluster: Slurm, toy_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One dies with all its processes; of the other Slurm loses sight, and its AAR works on."""
    run = RunDir(tmp_path / "run")
    with FakeModels(lost_node.steady, lost_node.THINKS) as fake:
        monkeypatch.setenv("ANTHROPIC_API_KEY", fake.key)
        keys = lost_node.key_file(tmp_path, fake)
        options = {"host": "127.0.0.1", "poll_s": 0.5, "env_file": str(keys)}
        executor = {"name": "slurm", "options": options, "cpus": 1}
        spec = lost_node.spec_of(fake, executor, ["ada", "bea"], ["rowan"])
        course = lost_node.Course(toy_root, tmp_path, spec, cluster.where)
        course.until(lambda: min(lost_node.calls(run, name) for name in ("ada", "bea")) >= 3)
        there = cluster.where()
        fake.replan([Fault("slow", every=1, wait_s=2.0)])  # the old copy lives to see the new one
        cluster.lose(there["ada"], whole=False)
        cluster.lose(there["bea"])
        secrets = [fake.key, *(path.read_text().strip() for path in run.tokens.iterdir())]
        assert not [secret for secret in secrets if cluster.holds(secret)]
        course.until(lambda: refused(run, "ada") and lost_node.lives(run)["bea"] == 2)
        fake.replan([])
        course.end()
        export = lost_node.check_whole(run, fake, kills=2)
    assert there["ada"] != there["bea"]
    [third] = set(cluster.nodes) - {there["ada"], there["bea"]}
    for name in ("ada", "bea"):
        assert course.seen[name] == [there[name], third], "it came up on another node"
        log = (run.aar(name) / "aar.log").read_text()
        assert f"was queued again 1 times; now on {third}" in log
        assert refused(run, name) == (name == "ada"), "the old copy that lived on"
    moved = {name for name, node in there.items() if node != third}
    lives = lost_node.lives(run)
    assert lives == {name: 2 if name in moved else 1 for name in ("ada", "bea", "rowan")}
    assert lost_node.events(run, "process_crashed") == [], "a lost node is no crash of the AAR"
    assert export.ending is not None and export.ending.value == "finished"
