"""AARs on Slurm with a student server on each node, and a look at a node."""

from pathlib import Path

import pytest
from slurm import Slurm
from toy_campaign import EXPECTED_SUBMISSIONS, toy_spec

from aarlab.campaign.node_probe import node_remarks
from aarlab.campaign.runner import create, run_campaign
from aarlab.campaign.spec import CampaignSpec, StudentServerSpec, VerifySpec, parse_spec
from aarlab.core.layout import DataRoot, RunDir

pytestmark = [pytest.mark.gate]


def on_slurm(**executor: object) -> CampaignSpec:
    wanted = StudentServerSpec(device="auto")
    given = {"student_server": wanted, "verify": VerifySpec(top=0, certify=False)}
    raw = toy_spec().model_copy(update=given).model_dump(mode="json")
    options = {"poll_s": 0.5, "host": "127.0.0.1"}
    raw["executor"] = {
        "name": "slurm",
        "options": options,
        "cpus": 1,
        "aars_per_pod": 1,
        **executor,
    }
    return parse_spec(raw, "spec")


def test_aars_train_on_the_server_of_their_node(
    slurm: Slurm, toy_root: DataRoot, tmp_path: Path
) -> None:
    run = RunDir(tmp_path / "run")
    create(run, on_slurm(), {"why": "test"})
    export = run_campaign(run, toy_root, lambda kind, facts: None)
    assert len(export.submissions) == EXPECTED_SUBMISSIONS
    spent = {aar.name: aar.spend.get("device_s", 0.0) for aar in export.aars}
    assert spent["rowan"] > 0 and spent["guards"] == 0, "a guard asks no student"
    said = [path.read_text(encoding="utf-8") for path in run.path.glob("students-pod-*.log")]
    assert any("serving students on cpu" in log for log in said)
    assert not (run.path / "students.log").exists(), "none runs on the campaign's machine"


def test_a_job_looks_at_a_node(slurm: Slurm, toy_root: DataRoot) -> None:
    found = node_remarks(on_slurm(), toy_root, 120.0)
    assert [remark.gravity for remark in found] == ["note", "note"], found
    assert "CUDA devices: none" in found[0].text
    assert not list((toy_root.path / "probes").iterdir())


def test_a_node_without_what_is_needed_says_so(slurm: Slurm, toy_root: DataRoot) -> None:
    raw = on_slurm().model_dump(mode="json")
    raw["student_server"]["device"] = "cuda"
    found = node_remarks(parse_spec(raw, "spec"), toy_root, 120.0)
    assert [r.text for r in found if r.gravity == "to do" and "no CUDA device" in r.text]


def test_a_job_that_waits_is_taken_back(slurm: Slurm, toy_root: DataRoot) -> None:
    slurm.say("scontrol", "update", "PartitionName=main", "State=DOWN")
    try:
        (found,) = node_remarks(on_slurm(), toy_root, 3.0)
    finally:
        slurm.say("scontrol", "update", "PartitionName=main", "State=UP")
    assert "still waits in the queue after 3 s" in found.text
    assert not slurm.say("squeue", "-h").strip()
