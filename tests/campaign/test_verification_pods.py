"""Re-runs of a campaign in pods of its executor, the same to the bit as on its own machine."""

import json
import sqlite3
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from toy_campaign import EXPECTED_VERIFICATIONS, processes_of, toy_spec

from aarlab.campaign.aars import ExecutorSpec, VerifiersSpec
from aarlab.campaign.runner import create, run_campaign
from aarlab.campaign.spec import CampaignSpec
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import CampaignExport
from aarlab.store.log import verify_log

Toy = tuple[RunDir, CampaignExport]
APART = {"id", "at", "seconds", "snapshot"}  # of one re-run made twice


@pytest.fixture
def nodes(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where pods of this test have their folders."""
    folder = tmp_path_factory.mktemp("nodes")
    monkeypatch.setenv("AARLAB_POD_FOLDER", str(folder))
    return folder


def spec_with(**executor: Any) -> CampaignSpec:
    return toy_spec().model_copy(update={"executor": ExecutorSpec(**executor)})


def re_runs(export: CampaignExport) -> dict[tuple[str, ...], dict[str, Any]]:
    """What became of each re-run, by what was re-run."""
    found = {}
    for one in export.verifications:
        facts = one.model_dump(mode="json", exclude=APART)
        found[one.aar, one.method, one.task, one.split, one.ablation] = facts
    return found


class Killer(threading.Thread):
    """Kills processes of a pod with SIGKILL, each in the middle of a re-run."""

    def __init__(self, nodes: Path, pod: str, times: int) -> None:
        super().__init__(daemon=True)
        self.nodes, self.pod, self.times = nodes, pod, times
        self.killed = list[Path]()

    def run(self) -> None:
        until = time.monotonic() + 200
        while len(self.killed) < self.times and time.monotonic() < until:
            time.sleep(0.01)
            for under_way in self.nodes.glob(f"{self.pod}-*/verifier/ver_*/*"):
                folder = under_way.parents[2]
                if folder not in self.killed:
                    self.kill(int(folder.name.split("-")[2]))
                    self.killed.append(folder)
                    break

    def kill(self, pid: int) -> None:
        process = psutil.Process(pid)
        family = process.children(recursive=True)
        process.kill()
        _, left = psutil.wait_procs(family, 20)
        assert not left, "verifier and sandboxes end with the pod"


def claims(run: RunDir) -> Counter[str]:
    """How often each re-run was claimed."""
    with sqlite3.connect(run.database) as database:
        rows = database.execute("select body from log where kind = 'verification_claimed'")
        return Counter(json.loads(body)["id"] for (body,) in rows)


@pytest.mark.gate
def test_a_pod_that_is_killed_in_a_re_run_changes_nothing(
    toy_run: Toy, toy_root: DataRoot, tmp_path: Path, nodes: Path
) -> None:
    run = RunDir(tmp_path / "run")
    create(run, spec_with(verifiers=VerifiersSpec(pods=2)), {"why": "test"})
    killer = Killer(nodes, "verifiers-1", times=2)
    killer.start()
    export = run_campaign(run, toy_root, lambda kind, facts: None)
    assert len(killer.killed) >= 1
    assert len(export.verifications) == EXPECTED_VERIFICATIONS
    assert re_runs(export) == re_runs(toy_run[1])
    begun = claims(run)
    assert set(begun) == {one.id for one in export.verifications}
    assert max(begun.values()) > 1, "what was cut off was begun again"
    verify_log(run.database)
    assert list(nodes.glob("verifiers-*")) == [], "nothing hidden stays on the machine"
    assert processes_of(run.path) == processes_of(nodes) == []
    assert not any(run.verifier.glob("ver_*")), "the campaign's machine did none"
