"""AARs in pods: killed singly, with their pod, and twice at once, nothing is lost or doubled."""

import os
from pathlib import Path

import lost_node
import psutil
import pytest
import yaml
from fake_models import FakeModels
from toy_campaign import command, finished, processes_of

from aarlab.agents.language.steering import STOPPED
from aarlab.agents.state import begun, load_state
from aarlab.campaign.pod import AarReport, Report, report_file
from aarlab.campaign.pods import Member, PodChild
from aarlab.campaign.spec import CampaignSpec
from aarlab.core.errors import Superseded
from aarlab.core.files import write_atomic
from aarlab.core.layout import DataRoot, RunDir
from aarlab.executors.base import Ended

LANGUAGES, CONTROLS = ["ada", "bea", "cleo"], ["rowan"]


def start(run: RunDir, root: DataRoot, fake: FakeModels, monkeypatch, **executor: object):
    monkeypatch.setenv("ANTHROPIC_API_KEY", fake.key)
    spec = lost_node.spec_of(fake, {"name": "local", **executor}, LANGUAGES, CONTROLS)
    path = run.path.parent / "spec.yaml"
    path.write_text(yaml.safe_dump(spec), encoding="utf-8")
    return command(root, "campaign", "run", str(path), "--out", str(run.path))


def steer(root: DataRoot, run: RunDir, what: str, name: str) -> None:
    code, out = finished(command(root, "aar", what, str(run.path), name))
    assert code == 0, out


def pids(run: RunDir, module: str, about: str) -> list[psutil.Process]:
    return [
        process
        for process in processes_of(run.path)
        if module in process.cmdline()
        and any(about in word for word in process.cmdline())
        and "setpriv" not in process.cmdline()[0]
    ]


@pytest.mark.gate
def test_an_aar_and_a_pod_are_killed(tmp_path: Path, toy_root: DataRoot, monkeypatch) -> None:
    run = RunDir(tmp_path / "run")
    state = run.aar("cleo") / "state.json"
    with FakeModels(lost_node.steady, lost_node.THINKS) as fake:
        process = start(run, toy_root, fake, monkeypatch, aars_per_pod=3)
        try:
            lost_node.until(
                lambda: all(lost_node.calls(run, name) >= 3 for name in LANGUAGES), 120, "calls"
            )
            assert {path.name for path in run.path.glob("pods/*")} == {"pod-1", "pod-2"}
            [ada] = pids(run, "aarlab.agents", "/ada/")
            ada.kill()
            lost_node.until(lambda: lost_node.lives(run)["ada"] == 2, 60, "ada's second life")
            assert lost_node.lives(run)["bea"] == 1, "its neighbours are not touched"
            [pod] = pids(run, "aarlab.campaign.pod", "/pod-1/")
            pod.kill()
            lost_node.until(lambda: lost_node.lives(run)["bea"] == 2, 60, "bea's second life")
            lost_node.until(lambda: lost_node.lives(run)["ada"] == 3, 60, "ada's third life")
            lost_node.until(lambda: lost_node.calls(run, "cleo") >= 8, 120, "all kinds of writes")
            steer(toy_root, run, "pause", "ada")
            steer(toy_root, run, "stop", "cleo")
            told = run.pod("pod-1") / "told"
            lost_node.until(lambda: (told / "ada").read_text() == "pause\n", 30, "a pause")
            lost_node.until(lambda: load_state(state).why == STOPPED, 180, "cleo's end")
            assert (told / "bea").read_text() == "run\n"
            steer(toy_root, run, "resume", "ada")
            code, out = finished(process)
        finally:
            process.kill()
        assert code == 0, out
        lost_node.check_whole(run, fake, kills=4)
    crashed = [event["process"] for event in lost_node.events(run, "process_crashed")]
    assert sorted(crashed) == ["ada", "pod-1"]
    assert lost_node.lives(run)["rowan"] == 1
    for name in LANGUAGES:
        assert "finished" in (run.aar(name) / "aar.log").read_text()
    assert processes_of(run.path) == []


@pytest.mark.gate
def test_a_second_copy_of_a_pod_takes_over(tmp_path: Path, toy_root: DataRoot, monkeypatch) -> None:
    run = RunDir(tmp_path / "run")
    with FakeModels(lost_node.steady, lost_node.THINKS) as fake:
        process = start(run, toy_root, fake, monkeypatch, aars_per_pod=3)
        try:
            lost_node.until(
                lambda: all(lost_node.calls(run, name) >= 3 for name in LANGUAGES), 120, "calls"
            )
            [first] = pids(run, "aarlab.campaign.pod", "/pod-1/")
            first.suspend()  # a machine that the engine does not hear of any more
            environ = {**os.environ, "AARLAB_HOME": str(toy_root.path)}
            second = psutil.Popen(first.cmdline(), env=environ)
            lost_node.until(lambda: min(map(lost_node.lives(run).get, LANGUAGES)) == 2, 60, "two")
            first.resume()
            lost_node.until(lambda: not first.is_running() or first.status() == "zombie", 30, "end")
            code, out = finished(process)
            second.wait(60)
        finally:
            process.kill()
        assert code == 0, out
        lost_node.check_whole(run, fake, kills=2 * len(LANGUAGES))


# ---------------------------------------------------------------- the parts
def test_of_two_copies_of_a_pod_the_older_one_writes_nothing(tmp_path: Path) -> None:
    old, new = begun(tmp_path), begun(tmp_path)
    assert new.life == old.life + 1
    new.check()
    with pytest.raises(Superseded):
        old.check()
    with pytest.raises(Superseded), old.held():
        raise AssertionError("the older copy has the folder")


class Jobs:
    """An executor's handle that ends when it is told to."""

    def __init__(self) -> None:
        self.ended: Ended | None = None
        self.started = 0
        self.id = "job"

    def start(self, _job: object) -> "Jobs":
        self.started, self.ended = self.started + 1, None
        return self

    def begun(self) -> bool:
        return True

    def poll(self) -> Ended | None:
        return self.ended

    def stop(self, _grace_s: float) -> None:
        self.ended = Ended(None)


def pod_of(folder: Path) -> tuple[PodChild, Member, Jobs]:
    jobs = Jobs()
    pod = PodChild("pod-1", ("pod",), folder / "pod.log", executor=jobs, folder=folder)
    return pod, Member("ada", (), folder / "aar.log", pod=pod), jobs


def says(pod: PodChild, **facts: object) -> None:
    report = AarReport.model_validate({"run": 1, **facts})
    text = Report(pod=1, aars={"ada": report}).model_dump_json()
    write_atomic(report_file(pod.folder), text)
    pod._read_at = float("-inf")


def test_an_aar_of_a_pod_crashes_and_ends_as_any_other(tmp_path: Path) -> None:
    pod, ada, _ = pod_of(tmp_path)
    ada.start()
    pod.start()
    assert ada.poll() is None
    says(pod, state="running")
    assert ada.poll() is None
    says(pod, state="waiting", crashes=1, deaths=1, code=-9)
    assert (ada.poll(), ada.poll()) == ("crashed", None)
    assert (ada.crashes, ada.died_of) == (1, "signal 9")
    says(pod, state="running", crashes=1, deaths=1, code=-9)
    assert ada.poll() == "restarted"
    says(pod, state="finished", deaths=1, code=0)
    assert (ada.poll(), ada.finished) == ("finished", True)


def test_orders_that_a_pod_did_not_see_before_it_ended_start_it_again(tmp_path: Path) -> None:
    pod, ada, jobs = pod_of(tmp_path)
    ada.start()
    pod.start()
    says(pod, state="finished", code=0)
    assert ada.poll() == "finished"
    ada.again()  # its budget was extended while the pod ended
    jobs.ended = Ended(0)
    assert (pod.poll(), jobs.started) == (None, 2)
    says(pod, run=2, state="finished", code=0)
    jobs.ended = Ended(0)
    assert (pod.poll(), jobs.started) == ("finished", 2)


def test_a_pod_that_is_given_up_takes_its_aars_along(tmp_path: Path) -> None:
    pod, ada, jobs = pod_of(tmp_path)
    ada.start()
    pod.start()
    jobs.ended = Ended(78)
    assert (pod.poll(), ada.poll(), ada.failed) == ("failed", "failed", True)


def spec_with(**more: object) -> dict[str, object]:
    aars = [{"name": "rowan", "researcher": "random", "direction": "elicitation"}]
    return {"name": "toy", "tasks": ["gauss"], "aars": aars, **more}


def test_what_a_spec_may_ask_of_pods() -> None:
    given = spec_with(executor={"name": "slurm", "aars_per_pod": 2}, student_server={})
    assert CampaignSpec.model_validate(given).executor.aars_per_pod == 2
    for executor in ({"name": "slurm"}, {"name": "local", "devices_per_pod": 2}):
        with pytest.raises(ValueError, match="pod"):
            CampaignSpec.model_validate(spec_with(executor=executor, student_server={}))
    two = {"name": "slurm", "aars_per_pod": 2, "devices_per_pod": 2}
    for device in ("cpu", "cuda"):
        given = spec_with(executor=two, student_server={"device": device})
        assert CampaignSpec.model_validate(given).executor.devices_per_pod == 2
    with pytest.raises(ValueError, match="share the cores"):
        CampaignSpec.model_validate(spec_with(executor=two, student_server={"device": "auto"}))
