"""Re-runs of a campaign in pods of its executor, the same to the bit as on its own machine."""

import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from toy_campaign import EXPECTED_VERIFICATIONS, command, finished, processes_of, toy_spec
from verification_pods import claims, re_runs

from aarlab.campaign.aars import ExecutorSpec, VerifiersSpec
from aarlab.campaign.checking import Remark, estimate, remarks
from aarlab.campaign.node import pods_folder
from aarlab.campaign.processes import Child, CrashedRepeatedly
from aarlab.campaign.runner import create, run_campaign, verify_again
from aarlab.campaign.settings import RestartSettings
from aarlab.campaign.spec import CampaignSpec, parse_spec
from aarlab.campaign.verifier_pod import private_folder
from aarlab.campaign.verifying import devices_of_verifier
from aarlab.campaign.watch import events_of
from aarlab.core.errors import BadInput
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import CampaignExport
from aarlab.executors.base import LEFT
from aarlab.report.load import load_export
from aarlab.store.log import verify_log

Toy = tuple[RunDir, CampaignExport]


@pytest.fixture
def nodes(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where pods of this test have their folders."""
    folder = tmp_path_factory.mktemp("nodes")
    monkeypatch.setenv("AARLAB_POD_FOLDER", str(folder))
    return folder


def spec_with(**executor: Any) -> CampaignSpec:
    return toy_spec().model_copy(update={"executor": ExecutorSpec(**executor)})


def lives(process: psutil.Process) -> bool:
    """Whether it has not ended. It is a child of this process, and the campaign waits for it."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


class Killer(threading.Thread):
    """Sends a signal to the first process of a pod that is in the middle of a re-run."""

    def __init__(self, nodes: Path, pod: str, number: int) -> None:
        super().__init__(daemon=True)
        self.nodes, self.pod, self.number = nodes, pod, number
        self.signalled = self.removed = False

    def run(self) -> None:
        until = time.monotonic() + 200
        while time.monotonic() < until:
            time.sleep(0.01)
            for under_way in self.nodes.glob(f"{self.pod}-*/verifier/ver_*/*"):
                folder = under_way.parents[2]
                process = psutil.Process(int(folder.name.split("-")[2]))
                family = process.children(recursive=True)
                process.send_signal(self.number)
                while lives(process) and time.monotonic() < until:
                    time.sleep(0.01)
                _, left = psutil.wait_procs(family, 20)
                assert not left, "verifier and sandboxes end with the pod"
                self.signalled, self.removed = True, not folder.exists()
                return


@pytest.mark.gate
def test_pods_that_end_in_a_re_run_change_nothing(
    toy_run: Toy, toy_root: DataRoot, tmp_path: Path, nodes: Path
) -> None:
    """One is killed, the other gives way as an engine asks it to before its time ends."""
    run = RunDir(tmp_path / "run")
    create(run, spec_with(verifiers=VerifiersSpec(pods=2)), {"why": "test"})
    killed = Killer(nodes, "verifiers-1", signal.SIGKILL)
    left = Killer(nodes, "verifiers-2", signal.SIGUSR1)
    for each in (killed, left):
        each.start()
    export = run_campaign(run, toy_root, lambda kind, facts: None)
    assert killed.signalled and left.signalled
    assert left.removed and not killed.removed, "the next process removes what a killed one left"
    said = {e["process"]: e["died_of"] for e in events_of(run, "process_crashed")}
    assert said == {"verifiers-1": "signal 9", "verifiers-2": f"exit code {LEFT}"}
    assert len(export.verifications) == EXPECTED_VERIFICATIONS
    assert re_runs(export) == re_runs(toy_run[1])
    begun = claims(run)
    assert set(begun) == {one.id for one in export.verifications}
    assert sum(begun.values()) > EXPECTED_VERIFICATIONS, "what was cut off was begun again"
    verify_log(run.database)
    assert list(nodes.glob("verifiers-*")) == [], "nothing hidden stays on the machine"
    assert processes_of(run.path) == processes_of(nodes) == []
    assert not any(run.verifier.glob("ver_*")), "the campaign's machine did none"


@pytest.mark.gate
def test_pods_that_are_given_up_end_the_campaign_and_resume_goes_on(
    toy_run: Toy, toy_root: DataRoot, tmp_path: Path, nodes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, plain = RunDir(tmp_path / "run"), Child.start

    def start(child: Child) -> None:
        child.restarts = RestartSettings(first_s=0.05, factor=1, longest_s=0.1, most_crashes=2)
        plain(child)

    create(run, spec_with(verifiers=VerifiersSpec(pods=1)), {"why": "test"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Child, "start", start)
        patch.setenv("AARLAB_POD_FOLDER", "/dev/null")
        with pytest.raises(CrashedRepeatedly, match=r"process verifiers-1 died 3 times.*/dev/null"):
            run_campaign(run, toy_root, lambda kind, facts: None)
    events = run.events.read_text(encoding="utf-8")
    assert '"about": "verifiers-1"' in events and '"ending": "crashed"' in events
    verify_again(run, toy_root)  # what was asked for, with the pods of the spec
    assert sum(claims(run).values()) > 0
    export = run_campaign(run, toy_root, lambda kind, facts: None)
    assert re_runs(export) == re_runs(toy_run[1])
    assert list(nodes.glob("verifiers-*")) == []


@pytest.mark.gate
def test_a_campaign_that_is_killed_in_a_re_run_resumes(
    toy_run: Toy, toy_root: DataRoot, tmp_path: Path, nodes: Path
) -> None:
    run, path = RunDir(tmp_path / "run"), tmp_path / "spec.yaml"
    spec = spec_with(verifiers=VerifiersSpec(pods=1)).model_dump(mode="json")
    path.write_text(yaml.safe_dump(spec), encoding="utf-8")
    process = command(toy_root, "campaign", "run", str(path), "--out", str(run.path), seeded=True)
    try:
        while not any(nodes.glob("*/verifier/ver_*/*")):
            assert process.poll() is None, finished(process)
            time.sleep(0.02)
        process.kill()
        finished(process)
        until = time.monotonic() + 20
        while processes_of(nodes) or processes_of(run.path):
            assert time.monotonic() < until, "pods, verifier and sandboxes end with the campaign"
            time.sleep(0.1)
        process = command(toy_root, "campaign", "resume", str(run.path), seeded=True)
        code, out = finished(process)
    finally:
        process.kill()
    assert code == 0, out
    export = load_export(run.export)
    assert re_runs(export) == re_runs(toy_run[1])
    assert sum(claims(run).values()) > EXPECTED_VERIFICATIONS
    assert list(nodes.glob("verifiers-*")) == []
    verify_log(run.database)


# ---------------------------------------------------------------- the parts
def raw_with(executor: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**toy_spec().model_dump(mode="json"), "executor": executor, **more}


def parsed(executor: dict[str, Any], **more: Any) -> CampaignSpec:
    return parse_spec(raw_with(executor, **more), "spec")


def test_what_a_spec_may_ask_for() -> None:
    assert parsed({"verifiers": 3}).executor.verifiers == VerifiersSpec(pods=3)
    for bad in (0, 65, True, "two", {"pods": 1, "devices": 2}, {"cpus": 2}):
        with pytest.raises(BadInput, match=r"executor\.verifiers"):
            parsed({"verifiers": bad})
    aar = {"name": "verifiers-1", "researcher": "random", "direction": "elicitation"}
    with pytest.raises(BadInput, match="are those of verification pods"):
        parsed({"verifiers": 1}, aars=[aar])
    assert parsed({}, aars=[aar]).aars[0].name == "verifiers-1"
    with pytest.raises(BadInput, match="several devices of a pod need"):
        parsed({"verifiers": {"pods": 1, "gpus": 2}}, student_server={"device": "auto"})


def test_devices_of_pods() -> None:
    students = {"device": "cuda"}
    for gpus, wanted, devices in ((None, {}, 0), (2, {}, 0), (None, students, 1), (2, students, 2)):
        given = {"student_server": wanted} if wanted else {}
        spec = parsed({"verifiers": {"pods": 1, "gpus": gpus}}, **given)
        assert devices_of_verifier(spec) == devices


def said(spec: CampaignSpec, root: DataRoot) -> list[Remark]:
    return [one for one in remarks(spec, root, lambda task: False) if "verif" in str(one)]


def test_what_a_check_says_of_pods(toy_root: DataRoot) -> None:
    [note] = said(parsed({"verifiers": 2}), toy_root)
    assert note.gravity == "note"
    assert note.text == "re-runs are done by 2 pods on this machine, up to 2 at once in each"
    raw = {"name": "slurm", "options": {"host": "127.0.0.1"}, "aars_per_pod": 2, "gpus": 1}
    students = {"device": "cuda"}
    found = said(parsed({**raw, "verifiers": {"pods": 3}}, student_server=students), toy_root)
    assert [one.text for one in found if one.gravity == "error"] == [
        "`student_server` has device: cuda, but `verifiers` ask slurm for none: give `gpus`"
    ]
    spec = parsed({**raw, "verifiers": {"pods": 3, "gpus": 2}}, student_server=students)
    assert not [one for one in said(spec, toy_root) if one.gravity == "error"]
    assert estimate(spec).devices == 1 + 3 * 2, "a pod of the two AARs, and those of the pods"


def test_a_private_folder_is_removed_by_its_process_or_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / "verifiers-9-1-a"
    (left / "material").mkdir(parents=True)
    (left / "lock").touch()
    (left / "material" / "inputs.jsonl").write_text("hidden")
    other = tmp_path / "pod-1-abc"  # of AARs
    other.mkdir()
    with private_folder(tmp_path, "verifiers-1") as first:
        assert not left.exists() and other.exists()
        with private_folder(tmp_path, "verifiers-1") as second:
            assert first.exists() and first != second, "one that lives is left alone"
        assert not second.exists()
    assert not first.exists()


def test_pods_lay_nothing_out_behind_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("AARLAB_POD_FOLDER", str(link))
    for _ in range(2):  # of a link to nothing, then of one to a folder
        with pytest.raises(BadInput, match="AARLAB_POD_FOLDER"):
            pods_folder()
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
