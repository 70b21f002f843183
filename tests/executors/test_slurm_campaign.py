"""A campaign whose AARs are jobs of Slurm: to its end, through crashes, and after `kill -9`."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from slurm import Slurm
from toy_campaign import (
    EXPECTED_SUBMISSIONS,
    EXPECTED_VERIFICATIONS,
    command,
    finished,
    processes_of,
    toy_spec,
)

from aarlab.agents.state import load_state
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import CampaignExport
from aarlab.report.load import load_export
from aarlab.store.log import verify_log

pytestmark = [pytest.mark.gate, pytest.mark.usefixtures("slurm")]

AARS = {"rowan", "edda", "human", "guards"}


def started(
    run: RunDir, root: DataRoot, folder: Path, options: dict[str, object]
) -> subprocess.Popen[bytes]:
    spec = toy_spec().model_dump(mode="json")
    spec["executor"] = {"name": "slurm", "options": {"poll_s": 0.5, **options}, "cpus": 1}
    (folder / "toy.yaml").write_text(yaml.safe_dump(spec))
    return command(root, "campaign", "run", str(folder / "toy.yaml"), "--out", str(run.path))


def events(run: RunDir, kind: str) -> list[dict[str, object]]:
    lines = run.events.read_text().splitlines() if run.events.exists() else []
    return [event for line in lines if (event := json.loads(line))["kind"] == kind]


def live(slurm: Slurm) -> dict[str, str]:
    """Names of AARs by job, of all jobs that wait or run."""
    rows = slurm.say("squeue", "-h", "-t", "PD,R,CG,CF", "-o", "%i %j").splitlines()
    return {job: name.split("-", 2)[2] for job, name in (row.split() for row in rows)}


def whole(run: RunDir) -> CampaignExport:
    """The export, after a look that nothing was lost or done twice."""
    export = load_export(run.export)
    assert len(export.submissions) == EXPECTED_SUBMISSIONS
    assert len({s.snapshot for s in export.submissions}) == EXPECTED_SUBMISSIONS
    assert len(export.verifications) == EXPECTED_VERIFICATIONS
    for aar in export.aars:
        state = load_state(run.aar(aar.name) / "state.json")
        mine = [s.id for s in export.submissions if s.aar == aar.name]
        assert [t.score.submission for t in state.done if t.score] == mine
    verify_log(run.database)
    return export


@pytest.mark.parametrize("options", [{}, {"host": "127.0.0.1"}], ids=["socket", "tcp"])
def test_a_campaign_runs_as_jobs_and_ends_well(
    options: dict[str, object], tmp_path: Path, toy_root: DataRoot, slurm: Slurm
) -> None:
    run, seen = RunDir(tmp_path / "run"), set[str]()
    process = started(run, toy_root, tmp_path, options)
    while process.poll() is None:
        seen |= set(live(slurm).values())
        time.sleep(0.2)
    code, out = finished(process)
    assert code == 0, out
    assert seen >= {"rowan", "edda"} and seen <= AARS and live(slurm) == {}
    assert whole(run).spec["campaign"]["executor"]["name"] == "slurm"
    config = json.loads((run.aar("rowan") / "aar.json").read_text())
    assert (config["url"] or "").startswith("https://127.0.0.1:") == bool(options)


def test_kill_9_leaves_jobs_that_end_before_others_start(
    tmp_path: Path, toy_root: DataRoot, slurm: Slurm
) -> None:
    run = RunDir(tmp_path / "run")
    process = started(run, toy_root, tmp_path, {})
    while not (run.aar("rowan") / "state.json").exists():
        assert process.poll() is None, finished(process)
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    left = live(slurm)
    assert {"rowan", "edda"} & set(left.values()), "the jobs outlive the campaign's process"
    process = command(toy_root, "campaign", "resume", str(run.path))
    most: dict[str, int] = {}
    while process.poll() is None:
        now = list(live(slurm).values())
        most = {name: max(most.get(name, 0), now.count(name)) for name in AARS}
        time.sleep(0.1)
    code, out = finished(process)
    assert code == 0, out
    assert {str(event["job"]) for event in events(run, "process_left")} >= {
        job for job, name in left.items() if name in ("rowan", "edda")
    }
    assert max(most.values()) == 1, "one life at a time"
    assert live(slurm) == {} and processes_of(run.path) == []
    whole(run)


def test_a_job_that_slurm_ends_is_a_crash_with_its_reason_and_starts_again(
    tmp_path: Path, toy_root: DataRoot, slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AARLAB_RESTART_FIRST_S", "0.5")
    run = RunDir(tmp_path / "run")
    process = started(run, toy_root, tmp_path, {})
    while not (run.aar("rowan") / "state.json").exists():
        assert process.poll() is None, finished(process)
        time.sleep(0.1)
    (job,) = (job for job, name in live(slurm).items() if name == "rowan")
    slurm.say("scancel", job)
    code, out = finished(process)
    assert code == 0, out
    (crash,) = events(run, "process_crashed")
    assert (crash["process"], crash["died_of"]) == ("rowan", "Slurm: CANCELLED")
    assert [event["process"] for event in events(run, "process_restarted")] == ["rowan"]
    whole(run)


def test_ctrl_c_ends_the_jobs(tmp_path: Path, toy_root: DataRoot, slurm: Slurm) -> None:
    run = RunDir(tmp_path / "run")
    process = started(run, toy_root, tmp_path, {})
    while not (run.aar("rowan") / "state.json").exists():
        assert process.poll() is None, finished(process)
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    code, _ = finished(process, 120)
    assert code == 130 and live(slurm) == {} and processes_of(run.path) == []
