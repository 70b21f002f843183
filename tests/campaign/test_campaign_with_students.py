"""AARs whose experiments run on a student server: a real campaign, server and sandboxes."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from student_kit import served
from toy_campaign import EXPECTED_SUBMISSIONS, toy_spec

from aarlab.agents.config import AarConfig, StudentNode
from aarlab.agents.student_node import with_students
from aarlab.campaign import runner
from aarlab.campaign.runner import create, run_campaign
from aarlab.campaign.spec import CampaignSpec, StudentServerSpec, VerifySpec
from aarlab.campaign.students import StudentChild, devices_of, student_server
from aarlab.core.errors import BadInput, Unreachable
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import CampaignExport
from aarlab.students.client import Client
from aarlab.students.grants import Operator
from aarlab.students.server import running

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
            assert students.access.socket == locks.parent / "s"
            access = students.access.of("rowan")
        with Client.open(access.socket, access.token("gauss")) as client:
            assert client.info()["device"] == "cpu" and len(client.rows) > 100


def test_several_devices_elsewhere_are_refused() -> None:
    raw = spec_on_a_server().model_dump(mode="json")
    raw["student_server"]["devices"] = 2
    assert len(runner.parse_spec(raw, "spec").aars) == 4
    with pytest.raises(BadInput, match="1 for each AAR"):
        runner.parse_spec({**raw, "executor": "slurm"}, "spec")


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


def aar_on_a_node(root: DataRoot, home: Path) -> AarConfig:
    home.mkdir()
    node = StudentNode(device="cpu", models=(), mark="0123456789ab")
    return AarConfig(
        name="rowan", researcher="random", direction="elicitation", methods=[], seed=0,
        tasks={"gauss": root.public_task("gauss")}, home=home, token_file=home / "t",
        socket=home / "s", models=root.models, students=node, n_seeds=1, max_trials=1,
        trial_timeout_s=1.0, isolation="process", uid=None,
    )  # fmt: skip


@pytest.mark.gate
def test_an_aar_starts_its_own_server_where_it_runs(
    toy_root: DataRoot, tmp_path: Path, locks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aarlab.agents.student_node.LOOK_S", 0.1)
    config = aar_on_a_node(toy_root, tmp_path / "home")
    with pytest.raises(BadInput, match="was not started"):
        _ = config.access
    with with_students(config) as here:
        access = here.access
        assert access is not None
        first = access.token("gauss")
        with Client.open(access.socket, first) as client:
            assert len(client.rows) > 100
        (note,) = running(locks)
        os.kill(note["pid"], signal.SIGKILL)
        until = time.monotonic() + 60
        while access.token("gauss") == first and time.monotonic() < until:
            time.sleep(0.1)
        with Client.open(access.socket, access.token("gauss")) as client:
            assert len(client.rows) > 100
    assert not running(locks) and not access.socket.exists()


@pytest.mark.gate
def test_a_server_that_cannot_start_says_why(
    toy_root: DataRoot, tmp_path: Path, locks: Path
) -> None:
    config = aar_on_a_node(toy_root, tmp_path / "home")
    wrong = config.students.model_copy(update={"models": ("no-such-model",)})
    config = config.model_copy(update={"students": wrong})
    with pytest.raises(Unreachable, match="no-such-model"), with_students(config):
        pass
