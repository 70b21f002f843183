"""Pods that share no folder with the campaign: their AARs live on in what the platform keeps."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import lost_node
import psutil
import pytest
import yaml
from fake_models import FakeModels
from platform_kit import Running, platform, write_task
from toy_campaign import command, finished, processes_of

from aarlab.agents.config import AarConfig
from aarlab.campaign.aars import ExecutorSpec
from aarlab.campaign.executing import kept_lacks
from aarlab.campaign.node import Boot, joined, sealed, unsealed
from aarlab.campaign.pods import PodChild
from aarlab.campaign.spec import CampaignSpec
from aarlab.client.platform import PodClient
from aarlab.core.errors import BadInput
from aarlab.core.files import write_json
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.supervision import pod_key
from aarlab.core.wire_kept import PodJoin

LANGUAGES, CONTROLS = ["ada", "bea", "cleo"], ["rowan"]


@pytest.mark.gate
def test_pods_that_begin_again_in_an_empty_folder(
    tmp_path: Path, toy_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod is killed three times, and its folder removed."""
    run, nodes = RunDir(tmp_path / "run"), tmp_path / "nodes"
    monkeypatch.setenv("AARLAB_POD_FOLDER", str(nodes))
    with FakeModels(lost_node.steady, lost_node.THINKS) as fake:
        monkeypatch.setenv("ANTHROPIC_API_KEY", fake.key)
        executor = {"name": "local", "aars_per_pod": 3, "state": "kept"}
        spec = lost_node.spec_of(fake, executor, LANGUAGES, CONTROLS)
        path = tmp_path / "spec.yaml"
        path.write_text(yaml.safe_dump(spec), encoding="utf-8")
        process = command(toy_root, "campaign", "run", str(path), "--out", str(run.path))

        def worked(calls: int) -> bool:
            assert process.poll() is None, finished(process)
            return min(lost_node.calls(run, name) for name in LANGUAGES) >= calls

        try:
            for calls in (3, 7, 11):
                lost_node.until(lambda calls=calls: worked(calls), 120, f"{calls} calls")
                lost_node.kill_kept(run, nodes, "pod-1")
            code, out = finished(process)
        finally:
            process.kill()
        assert code == 0, out
        lost_node.check_whole(run, fake, kills=3 * len(LANGUAGES), nodes=nodes)
    for name in LANGUAGES:
        [home] = lost_node.homes(nodes, name)
        assert (home / "life").read_text() == "4\n"
        assert "continues from what life 3 kept" in (home / "aar.log").read_text()
        assert not (run.aar(name) / "workspace").exists(), "nothing ran in the run's folder"
        assert run.aar_log(name).read_text() == (home / "aar.log").read_text(), "for the dashboard"
    assert [e["process"] for e in lost_node.events(run, "process_crashed")] == ["pod-1"] * 3
    assert processes_of(run.path) == processes_of(nodes) == []


@pytest.mark.gate
def test_pods_that_take_their_student_servers_along(
    tmp_path: Path,
    toy_root: DataRoot,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A student server is killed, then its pod; the pod comes up where nothing is left of both."""
    run, nodes, locks = RunDir(tmp_path / "run"), tmp_path / "nodes", tmp_path_factory.mktemp("k")
    monkeypatch.setenv("AARLAB_POD_FOLDER", str(nodes))
    monkeypatch.setenv("AARLAB_DEVICE_LOCKS", str(locks / "locks"))

    def servers() -> list[psutil.Process]:
        found = [p for p in processes_of(locks) if "aarlab.students" in p.cmdline()]
        return sorted((p for p in found if "setpriv" not in p.cmdline()[0]), key=lambda p: p.pid)

    def tokens() -> set[str]:
        return {path.read_text() for path in nodes.glob("pod-1-*/students/*/gauss.token")}

    with FakeModels(lost_node.training, lost_node.THINKS) as fake:
        monkeypatch.setenv("ANTHROPIC_API_KEY", fake.key)
        executor = {"name": "local", "aars_per_pod": 3, "devices_per_pod": 2, "state": "kept"}
        spec = lost_node.spec_of(fake, executor, ["ada", "bea"], ["rowan"])
        spec = lost_node.in_pods(spec, {"pod-1": ["ada", "bea", "rowan"]})
        course = lost_node.Course(toy_root, tmp_path, spec, dict)

        def trained(name: str) -> int:
            return lost_node.results(run, name, lost_node.TRAINED)

        try:
            course.until(lambda: min(trained("ada"), trained("bea")) >= 1)
            first, of_life_1 = servers(), tokens()
            assert len(first) == 2 and len(of_life_1) == 3
            first[0].kill()
            course.until(lambda: len(servers()) == 2 and first[0] not in servers())
            course.until(lambda: min(trained("ada"), trained("bea")) >= 2)
            of_life_1 |= tokens()
            assert len(of_life_1) > 3, "the server that was started again made new grants"
            lost_node.kill_kept(run, nodes, "pod-1")
            assert servers() == [], "they ended with their pod"
            shutil.rmtree(locks / "locks")
            course.end()
        finally:
            course.kill()
        export = lost_node.check_whole(run, fake, kills=2, nodes=nodes)
    assert not of_life_1 & tokens()
    assert min(trained("ada"), trained("bea")) >= 3, "also after the move"
    spent = {aar.name: aar.spend.get("device_s", 0.0) for aar in export.aars}
    assert spent["rowan"] > 0, "its trials ran on a student server"
    for device in range(2):
        [log] = nodes.glob(f"pod-1-*/students-pod-1-{device}.log")
        assert f"serving students on cpu-{device} " in log.read_text()
    assert not list(run.path.glob("students*")), "none runs on the campaign's machine"
    assert [e["process"] for e in lost_node.events(run, "process_crashed")] == ["pod-1"]
    assert processes_of(run.path) == processes_of(nodes) == processes_of(locks) == []


# ---------------------------------------------------------------- the parts
def spec_with(executor: dict[str, object]) -> dict[str, object]:
    one = {"name": "rowan", "researcher": "random", "direction": "elicitation"}
    return {"name": "toy", "tasks": ["gauss"], "aars": [one], "executor": executor}


def test_what_a_spec_may_ask_to_be_kept() -> None:
    kept = {"name": "slurm", "state": "kept"}
    with pytest.raises(ValueError, match="give `aars_per_pod`, which may be 1"):
        CampaignSpec.model_validate(spec_with(kept))
    made = CampaignSpec.model_validate(spec_with({**kept, "aars_per_pod": 1}))
    assert made.executor.state == "kept"


def test_what_pods_on_other_machines_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ExecutorSpec(name="slurm", aars_per_pod=1, state="kept")
    monkeypatch.delenv("AARLAB_POD_SECRET", raising=False)
    host, secret = kept_lacks(spec, None)
    assert "options: {host: ADDRESS}" in host and "AARLAB_POD_SECRET" in secret
    monkeypatch.setenv("AARLAB_POD_SECRET", "s" * 15)
    assert len(kept_lacks(spec, "10.0.0.5")) == 1, "too short"
    monkeypatch.setenv("AARLAB_POD_SECRET", "s" * 16)
    assert kept_lacks(spec, "10.0.0.5") == []
    assert kept_lacks(spec.model_copy(update={"name": "local"}), None) == []


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("platform")
    with platform(write_task(home / "data"), RunDir(home / "run")) as made:
        yield made


def test_a_pod_says_from_its_node_why_it_stopped(running: Running, tmp_path: Path) -> None:
    """On its node a task is missing, whose students its server was to train."""
    run, name = running.run, "pod-1"
    spec = spec_with({"name": "local", "aars_per_pod": 1, "state": "kept"})
    spec |= {"tasks": ["tiny"], "student_server": {"device": "cpu"}}
    write_json(run.spec, {"campaign": CampaignSpec.model_validate(spec).model_dump(mode="json")})
    (run.tokens / "rowan").write_text(running.token("rowan"))
    key = tmp_path / "key"
    key.write_text(pod_key(running.operator_token, ["rowan"]))
    for folder in (run.pod(name), run.aar("rowan")):
        folder.mkdir(parents=True)
    write_json(run.pod(name) / "pod.json", {"aars": {"rowan": "x"}})
    config = AarConfig(
        **{"name": "rowan", "researcher": "random", "direction": "elicitation", "methods": []},
        **{"seed": 0, "n_seeds": 1, "max_trials": 1, "trial_timeout_s": 60.0, "uid": None},
        **{"home": run.aar("rowan"), "token_file": key, "socket": run.socket, "models": tmp_path},
        **{"tasks": {"tiny": tmp_path / "gone"}, "isolation": "bubblewrap", "kept": True},
    )
    (run.aar("rowan") / "aar.json").write_text(config.model_dump_json())
    boot = Boot(name=name, aars=["rowan"], root=tmp_path / "none", devices=1)
    boot = boot.model_copy(update={"socket": run.socket, "key_file": key})
    child = PodChild(
        name,
        [sys.executable, "-m", "aarlab.campaign.pod", boot.model_dump_json()],
        tmp_path / "on-the-node.log",
        folder=run.pod(name),
    )
    environ = {**os.environ, "AARLAB_POD_FOLDER": str(tmp_path / "nodes")}
    done = subprocess.run(child.argv, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "tiny" in child.last_words() and "none" in child.last_words()
    with PodClient(running.address, key.read_text(), 5) as pod:
        pod.join(PodJoin(pod=name, aars=["rowan"]))
    assert child.last_words() == "", "a process that begins has not stopped"


def test_a_key_travels_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, secret = "pod_" + "k" * 64, "s" * 32
    text = sealed(key, secret)
    assert key not in text and sealed(key, secret) != text and unsealed(text, secret) == key
    monkeypatch.setenv("AARLAB_POD_FOLDER", str(tmp_path))
    boot = Boot(name="pod-1", aars=["ada"], root=tmp_path, url="https://127.0.0.1:1", key=text)
    monkeypatch.setenv("AARLAB_POD_SECRET", "t" * 32)
    with pytest.raises(BadInput, match="is not the one of the campaign's machine"):
        joined(boot)
