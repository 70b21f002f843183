"""Re-runs in pods on Slurm, one of which loses its node in the middle: figures as without."""

import secrets
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from slurm import Slurm
from toy_campaign import EXPECTED_VERIFICATIONS, toy_spec
from verification_pods import claims, re_runs

from aarlab.campaign.node_probe import node_remarks
from aarlab.campaign.runner import create, run_campaign
from aarlab.campaign.spec import CampaignSpec, parse_spec
from aarlab.core.hashing import sha256_hex
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import CampaignExport
from aarlab.store.log import verify_log

pytestmark = pytest.mark.gate
Toy = tuple[RunDir, CampaignExport]
POD = "verifiers-1"


def on_slurm(env: Path, verifiers: dict[str, Any], **executor: Any) -> CampaignSpec:
    raw = toy_spec().model_dump(mode="json")
    options = {"poll_s": 0.5, "host": "127.0.0.1", "env_file": str(env)}
    raw["executor"] = {"name": "slurm", "options": options, "verifiers": verifiers, **executor}
    return parse_spec(raw, "spec")


class Loss(threading.Thread):
    """Takes the node of a pod away as soon as the pod is in the middle of a re-run.

    Unless `whole`, Slurm loses sight of the node, and the pod is halted until its next process has
    begun a re-run elsewhere.
    """

    def __init__(self, cluster: Slurm, nodes: Path, whole: bool) -> None:
        super().__init__(daemon=True)
        self.cluster, self.nodes, self.whole = cluster, nodes, whole
        self.node = ""

    def run(self) -> None:
        folder = self._under_way()
        self.node = folder.relative_to(self.nodes).parts[0]
        if self.whole:
            self.cluster.lose(self.node)
            return
        pod = psutil.Process(int(folder.name.split("-")[2]))
        halted = [pod, *pod.children(recursive=True)]
        for process in halted:
            process.suspend()
        self.cluster.lose(self.node, whole=False)
        self._under_way(folder)
        for process in halted:
            process.resume()

    def _under_way(self, *others: Path) -> Path:
        until = time.monotonic() + 200
        while time.monotonic() < until:
            found = [p.parents[2] for p in self.nodes.glob(f"*/{POD}-*/verifier/ver_*/*")]
            if new := set(found) - set(others):
                return min(new)
            time.sleep(0.01)
        raise AssertionError("no re-run was under way")


@pytest.mark.parametrize("state", ["shared", "kept"])
def test_a_node_is_lost_in_a_re_run(
    state: str,
    cluster: Slurm,
    toy_run: Toy,
    toy_root: DataRoot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With `shared` all of it is gone; with `kept` Slurm loses sight of it, and the pod lives."""
    run, nodes, env, whole = RunDir(tmp_path / "run"), tmp_path / "n", tmp_path / "env", True
    secret = secrets.token_hex(16)
    lines = [f'AARLAB_POD_FOLDER="{nodes}/$SLURMD_NODENAME"', f"AARLAB_POD_SECRET={secret}"]
    env.write_text("".join(f"{line}\n" for line in lines))
    env.chmod(0o600)
    nodes.mkdir()
    more: dict[str, Any] = {}
    if state == "kept":
        monkeypatch.setenv("AARLAB_POD_SECRET", secret)
        more, whole = {"state": "kept", "aars_per_pod": 4}, False
    spec = on_slurm(env, {"pods": 2, "cpus": 3}, **more)
    create(run, spec, {"why": "test"})
    loss = Loss(cluster, nodes, whole)
    loss.start()
    mark = sha256_hex(str(run.pod(POD).absolute()))[:8]
    log = run.pod(POD) / "pod.log" if whole else Path("/tmp") / f"aarlab-toy-{POD}-{mark}.log"
    try:
        export = run_campaign(run, toy_root, lambda kind, facts: None)
        keys = [path.read_text().strip() for path in (run.platform / "pods").glob("verifiers-*")]
        assert len(keys) == (2 if whole else 0), "sealed keys are in no file"
        assert not [one for one in (*keys, secret) if cluster.holds(one)]
        said = log.read_text()
        loss.join(10)
    finally:
        for path in Path("/tmp").glob("aarlab-toy-*.log"):
            path.unlink()
    assert loss.node, "the node was lost"
    assert len(export.verifications) == EXPECTED_VERIFICATIONS
    assert re_runs(export) == re_runs(toy_run[1])
    begun = claims(run)
    assert set(begun) == {one.id for one in export.verifications}
    assert max(begun.values()) > 1, "what was cut off was begun again"
    verify_log(run.database)
    if not whole:
        assert "the verifier stopped: a newer process of verifiers-1 has begun" in said
    assert not any(run.verifier.glob("ver_*")), "the campaign's machine did none"
    left = {path.relative_to(nodes).parts[0] for path in nodes.glob("*/verifiers-*")}
    assert left <= ({loss.node} if whole else set()), "only what died at once left its folder"


def test_a_job_looks_at_a_node_as_a_verification_pod(
    slurm: Slurm, toy_root: DataRoot, tmp_path: Path
) -> None:
    env = tmp_path / "env"
    env.write_text("")
    env.chmod(0o600)
    found = node_remarks(on_slurm(env, {"pods": 1, "cpus": 2}), toy_root, 120.0)
    assert [one.gravity for one in found] == ["note"] * 4, found
    assert found[2].text.startswith("verification pod: node ")
    raw = on_slurm(env, {"pods": 1, "gpus": 1}).model_dump(mode="json")
    found = node_remarks(parse_spec(raw, "spec"), toy_root, 120.0)
    [missing] = [one.text for one in found if one.gravity == "to do"]
    assert missing.startswith("verification pod: node: sbatch: ")
