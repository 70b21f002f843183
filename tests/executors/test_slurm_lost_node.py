"""A Slurm node is lost in the middle of a campaign: its AARs continue on other nodes."""

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


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slurm]:
    made = Slurm(nodes=3)
    monkeypatch.setenv("SLURM_CONF", str(made.conf))
    try:
        made.start()
        yield made
    finally:
        made.remove()


def refused(run: RunDir, name: str) -> bool:
    """Whether an older copy of the AAR ended because a newer one has begun."""
    return "a newer process of" in (run.aar(name) / "aar.log").read_text()


def test_two_nodes_are_lost(
    cluster: Slurm, toy_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One dies with all its processes; of the other Slurm loses sight, and its AAR works on."""
    run, seen = RunDir(tmp_path / "run"), defaultdict[str, list[str]](list)
    with FakeModels(lost_node.steady, lost_node.THINKS) as fake:
        monkeypatch.setenv("ANTHROPIC_API_KEY", fake.key)
        keys = lost_node.key_file(tmp_path, fake)
        options = {"host": "127.0.0.1", "poll_s": 0.5, "env_file": str(keys)}
        executor = {"name": "slurm", "options": options, "cpus": 1}
        spec = lost_node.spec_of(fake, executor, ["ada", "bea"], ["rowan"])
        spec["verify"]["top"] = 0
        (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
        words = ("campaign", "run", str(tmp_path / "spec.yaml"), "--out", str(run.path))
        process = command(toy_root, *words)

        def look() -> None:
            for name, node in cluster.where().items():
                if node not in seen[name]:
                    seen[name].append(node)
            time.sleep(0.2)

        while min(lost_node.calls(run, name) for name in ("ada", "bea")) < 3:
            assert process.poll() is None, finished(process)
            look()
        there = cluster.where()
        fake.replan([Fault("slow", every=1, wait_s=2.0)])  # the old copy lives to see the new one
        cluster.lose(there["ada"], whole=False)
        cluster.lose(there["bea"])
        secrets = [fake.key, *(path.read_text().strip() for path in run.tokens.iterdir())]
        assert not [secret for secret in secrets if cluster.holds(secret)]
        while not (refused(run, "ada") and lost_node.lives(run)["bea"] == 2):
            assert process.poll() is None, finished(process)
            look()
        fake.replan([])
        while process.poll() is None:
            look()
        code, out = finished(process)
        assert code == 0, out
        export = lost_node.check_whole(run, fake, kills=2)
    assert there["ada"] != there["bea"]
    [third] = set(cluster.nodes) - {there["ada"], there["bea"]}
    for name in ("ada", "bea"):
        assert seen[name] == [there[name], third], "it came up on another node"
        log = (run.aar(name) / "aar.log").read_text()
        assert f"was queued again 1 times; now on {third}" in log
        assert refused(run, name) == (name == "ada"), "the old copy that lived on"
    moved = {name for name, node in there.items() if node != third}
    lives = lost_node.lives(run)
    assert lives == {name: 2 if name in moved else 1 for name in ("ada", "bea", "rowan")}
    assert lost_node.events(run, "process_crashed") == [], "a lost node is no crash of the AAR"
    assert export.ending is not None and export.ending.value == "finished"
