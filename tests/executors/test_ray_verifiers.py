"""Re-runs in pods on Ray, one of which loses its node in the middle: figures as without."""

import threading
import time
from pathlib import Path

import psutil
import pytest
from ray_cluster import RayCluster
from toy_campaign import EXPECTED_VERIFICATIONS, processes_of, toy_spec
from verification_pods import claims, re_runs

from aarlab.campaign.runner import create, run_campaign
from aarlab.campaign.spec import parse_spec
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import CampaignExport
from aarlab.store.log import verify_log

pytestmark = pytest.mark.gate
RAY_NODES = 3
Toy = tuple[RunDir, CampaignExport]
POD = "verifiers-1"


class Loss(threading.Thread):
    """Kills the raylet under a pod as soon as the pod is in the middle of a re-run."""

    def __init__(self, cluster: RayCluster, folders: Path) -> None:
        super().__init__(daemon=True)
        self.cluster, self.folders, self.node = cluster, folders, ""

    def run(self) -> None:
        until = time.monotonic() + 200
        while time.monotonic() < until:
            time.sleep(0.01)
            for under_way in self.folders.glob(f"{POD}-*/verifier/ver_*/*"):
                pod = psutil.Process(int(under_way.parents[2].name.split("-")[2]))
                above = {process.pid for process in pod.parents()}
                nodes = {n for n, raylet in self.cluster.nodes.items() if raylet.pid in above}
                self.node = nodes.pop()
                self.cluster.lose(self.node)
                return


def test_a_node_is_lost_in_a_re_run(
    ray_cluster: RayCluster, toy_run: Toy, toy_root: DataRoot, tmp_path: Path
) -> None:
    run, folders, env = RunDir(tmp_path / "run"), tmp_path / "n", tmp_path / "env"
    env.write_text(f"AARLAB_POD_FOLDER={folders}\n")
    env.chmod(0o600)
    raw = toy_spec().model_dump(mode="json")
    options = {"host": "127.0.0.1", "poll_s": 0.5, "env_file": str(env)}
    raw["executor"] = {"name": "ray", "options": options, "verifiers": {"pods": 2, "cpus": 3}}
    create(run, parse_spec(raw, "spec"), {"why": "test"})
    loss = Loss(ray_cluster, folders)
    loss.start()
    export = run_campaign(run, toy_root, lambda kind, facts: None)
    loss.join(10)
    assert loss.node, "the node was lost"
    assert len(export.verifications) == EXPECTED_VERIFICATIONS
    assert re_runs(export) == re_runs(toy_run[1])
    begun = claims(run)
    assert set(begun) == {one.id for one in export.verifications}
    assert max(begun.values()) > 1, "what was cut off was begun again"
    verify_log(run.database)
    assert list(folders.glob("verifiers-*")) == [], "nothing hidden stays on the machine"
    assert processes_of(run.path) == processes_of(folders) == []
