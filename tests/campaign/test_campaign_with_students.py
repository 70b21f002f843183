"""AARs whose experiments run on a student server: a real campaign, server and sandboxes."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from student_kit import served
from toy_campaign import EXPECTED_SUBMISSIONS, toy_spec

from aarlab.agents.config import AarConfig
from aarlab.campaign import runner
from aarlab.campaign.aars import ExecutorSpec
from aarlab.campaign.runner import create, run_campaign
from aarlab.campaign.settings import RestartSettings
from aarlab.campaign.spec import CampaignSpec, StudentServerSpec, VerifySpec
from aarlab.campaign.students import Access, StudentChild, devices_of, student_server
from aarlab.core.errors import BadInput, Conflict, Unreachable
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import CampaignExport
from aarlab.students.client import Client
from aarlab.students.grants import Operator

Toy = tuple[RunDir, CampaignExport]


@pytest.fixture
def locks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The locks of devices, this test's own: another test process may hold the CPU's.

    Its path is short, because a socket's path must be.
    """
    folder = tmp_path_factory.mktemp("k") / "locks"
    monkeypatch.setenv("AARLAB_DEVICE_LOCKS", str(folder))
    return folder


def spec_on_a_server() -> CampaignSpec:
    given = {"student_server": StudentServerSpec(device="cpu"), "verify": VerifySpec(top=0)}
    return toy_spec().model_copy(update=given)


def predictions_of(run: RunDir) -> dict[str, list[dict]]:
    """What each AAR predicted, but for one that goes by scores: those are shaped at random."""
    folders = {name: run.aar(name) / "predictions" for name in ("rowan", "human", "guards")}
    return {
        name: [json.loads(path.read_text())["output"]["runs"] for path in sorted(f.iterdir())]
        for name, f in folders.items()
    }


def killing_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Kill the student server while a trial runs on it; return its process ids."""
    begun, plain = list[int](), StudentChild.poll

    def poll(child: StudentChild) -> str | None:
        assert child.handle is not None
        pid = child.handle.process.pid
        if pid not in begun:
            begun.append(pid)
        if len(begun) == 1 and child.access is not None and used_s(child) > 0:
            os.kill(pid, signal.SIGKILL)
        return plain(child)

    def used_s(child: StudentChild) -> float:
        if child.handle.poll() is not None:
            return 0.0  # killed
        with Operator(child.socket, child.locks) as operator:
            return sum(one["device_s"] for one in operator.status()["clients"])

    monkeypatch.setattr(StudentChild, "poll", poll)
    return begun


@pytest.mark.gate
def test_predictions_are_those_of_sandboxes_also_when_the_server_is_killed(
    toy_run: Toy, toy_root: DataRoot, tmp_path: Path, locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, run = killing_once(monkeypatch), RunDir(tmp_path / "run")
    create(run, spec_on_a_server(), {"why": "test"})
    export = run_campaign(run, toy_root, lambda kind, facts: None)
    assert predictions_of(run) == predictions_of(toy_run[0])
    assert len(export.submissions) == EXPECTED_SUBMISSIONS
    assert len(begun) == 2, "it was killed once and started again"
    spent = {aar.name: aar.spend.get("device_s", 0.0) for aar in export.aars}
    assert spent["rowan"] > 0 and spent["guards"] == 0, "a guard asks no student"
    configs = [
        AarConfig.model_validate_json(p.read_bytes()) for p in run.path.glob("aars/*/aar.json")
    ]
    tokens = {c.students.token("gauss") for c in configs}
    assert len(tokens) == len(configs) == 4


def test_a_server_that_runs_is_used_and_left_running(toy_root: DataRoot, locks: Path) -> None:
    run, spec = RunDir(locks.parent / "run"), spec_on_a_server()
    with served(locks.parent):
        with student_server(run, toy_root, spec) as students:
            assert students is not None and not students.children
            assert students.access.sockets == (locks.parent / "s",)
            access = students.access.of("rowan")
        with Client.open(access.socket, access.token("gauss")) as client:
            assert client.info()["device"] == "cpu" and len(client.rows) > 100


@pytest.mark.gate
def test_a_server_that_ends_or_gets_no_grants_is_started_again(
    toy_root: DataRoot, locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both end it with exit code 0, which for other children means that their work is done."""
    run, spec, plain, tries = RunDir(locks.parent / "run"), spec_on_a_server(), Access.admit, []

    def admit(access: Access, socket: Path, folder: Path) -> None:
        tries.append(socket)
        if len(tries) == 1:
            raise Conflict("the first time no grants are made")
        plain(access, socket, folder)

    with student_server(run, toy_root, spec) as students:
        assert students is not None
        [child] = students.children
        child.restarts = RestartSettings(first_s=0.05, factor=1, longest_s=0.1)
        monkeypatch.setattr(Access, "admit", admit)
        child.handle.process.terminate()
        events = list[str]()
        while len(tries) < 2:
            events += filter(None, [child.poll()])
            time.sleep(0.02)
        assert events == ["crashed", "restarted"] * 2 and child.handle.poll() is None
        access = students.access.of("rowan")
        with Client.open(access.socket, access.token("gauss")) as client:
            assert len(client.rows) > 100


@pytest.mark.gate
def test_pods_of_one_machine_share_a_server(
    toy_run: Toy, toy_root: DataRoot, tmp_path: Path, locks: Path
) -> None:
    run, spec = RunDir(tmp_path / "run"), spec_on_a_server()
    create(run, spec.model_copy(update={"executor": ExecutorSpec(aars_per_pod=2)}), {"why": "test"})
    export = run_campaign(run, toy_root, lambda kind, facts: None)
    assert predictions_of(run) == predictions_of(toy_run[0])
    assert len(export.submissions) == EXPECTED_SUBMISSIONS
    configs = [
        AarConfig.model_validate_json(p.read_bytes()) for p in run.path.glob("aars/*/aar.json")
    ]
    assert len({c.students.token("gauss") for c in configs}) == len(configs) == 4
    assert {aar.spend.get("device_s", 0.0) > 0 for aar in export.aars} == {True, False}


@pytest.mark.gate
def test_a_pod_has_a_server_for_each_of_its_devices(
    toy_run: Toy, toy_root: DataRoot, tmp_path: Path, locks: Path
) -> None:
    run, spec = RunDir(tmp_path / "run"), spec_on_a_server()
    executor = ExecutorSpec(aars_per_pod=4, devices_per_pod=2)
    create(run, spec.model_copy(update={"executor": executor}), {"why": "test"})
    export = run_campaign(run, toy_root, lambda kind, facts: None)
    assert predictions_of(run) == predictions_of(toy_run[0])
    assert len(export.submissions) == EXPECTED_SUBMISSIONS
    access = {
        path.parent.name: AarConfig.model_validate_json(path.read_bytes()).students
        for path in run.path.glob("aars/*/aar.json")
    }
    places = [access[name].socket.parent.name for name in ("edda", "guards", "human", "rowan")]
    assert places == ["pod-1-0", "pod-1-1"] * 2, "they take turns among the servers"
    for number in range(2):
        said = (run.path / f"students-pod-1-{number}.log").read_text(encoding="utf-8")
        assert f"serving students on cpu-{number} " in said
    spent = {aar.name: aar.spend.get("device_s", 0.0) for aar in export.aars}
    assert min(spent[name] for name in ("edda", "human", "rowan")) > 0, "both were used"


def test_another_executor_needs_pods() -> None:
    raw = spec_on_a_server().model_dump(mode="json")
    with pytest.raises(BadInput, match="serves its own machine"):
        runner.parse_spec({**raw, "executor": "slurm"}, "spec")
    pods = {**raw, "executor": {"name": "slurm", "aars_per_pod": 1}}
    assert len(runner.parse_spec(pods, "spec").aars) == 4
    pods["student_server"] = {**raw["student_server"], "devices": 2}
    with pytest.raises(BadInput, match="devices_per_pod"):
        runner.parse_spec(pods, "spec")


def test_devices_are_counted_and_named() -> None:
    def named(n_cuda: int, **wanted: object) -> list[str]:
        return devices_of(StudentServerSpec.model_validate(wanted), lambda: n_cuda)

    assert named(8) == ["auto"]
    assert named(8, devices=3) == ["cuda:0", "cuda:1", "cuda:2"]
    assert named(2, devices="all") == ["cuda:0", "cuda:1"]
    assert named(0, devices=2) == named(4, devices=2, device="cpu") == ["cpu:0", "cpu:1"]
    for n_cuda, wanted in (
        (2, {"devices": 3}),
        (0, {"devices": "all"}),
        (0, {"device": "cuda", "devices": 2}),
    ):
        with pytest.raises(BadInput, match="torch finds"):
            named(n_cuda, **wanted)


@pytest.mark.gate
def test_aars_take_turns_among_two_devices(toy_root: DataRoot, locks: Path) -> None:
    run = RunDir(locks.parent / "run")
    wanted = StudentServerSpec(device="cpu", devices=2)
    spec = spec_on_a_server().model_copy(update={"student_server": wanted})
    with student_server(run, toy_root, spec) as students:
        assert students is not None and len(students.children) == 2
        found = [students.access.of(aar.name) for aar in spec.aars]
        assert [one.socket for one in found] == [*students.access.sockets] * 2
        for number, access in enumerate(found):
            with Client.open(access.socket, access.token("gauss")) as client:
                assert client.info()["device"] == f"cpu-{number % 2}"
    assert not any(socket.exists() for socket in students.access.sockets)


@pytest.mark.gate
def test_a_device_that_is_taken_is_named(toy_root: DataRoot, locks: Path) -> None:
    run = RunDir(locks.parent / "run")
    wanted = StudentServerSpec(device="cpu", devices=2)
    spec = spec_on_a_server().model_copy(update={"student_server": wanted})
    with (
        served(locks.parent, device="cpu-1"),
        pytest.raises(Unreachable, match=r"cpu:1 did not start: .* has this device"),
        student_server(run, toy_root, spec),
    ):
        pass
