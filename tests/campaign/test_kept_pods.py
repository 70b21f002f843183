"""Pods that share no folder with the campaign: their AARs live on in what the platform keeps."""

import shutil
from pathlib import Path

import lost_node
import psutil
import pytest
import yaml
from fake_models import FakeModels
from toy_campaign import command, finished, processes_of

from aarlab.campaign.aars import ExecutorSpec
from aarlab.campaign.executing import kept_lacks
from aarlab.campaign.node import Boot, joined, sealed, unsealed
from aarlab.campaign.spec import CampaignSpec
from aarlab.core.errors import BadInput
from aarlab.core.layout import DataRoot, RunDir

LANGUAGES, CONTROLS = ["ada", "bea", "cleo"], ["rowan"]


def pods(run: RunDir, name: str) -> list[psutil.Process]:
    """Processes of a pod of this campaign: its command line holds the campaign's key file."""
    mark = str(run.platform / "pods" / name)
    return [
        p
        for p in psutil.process_iter()
        if any(mark in word for word in _words(p)) and "setpriv" not in _words(p)[0]
    ]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.gate
def test_pods_that_begin_again_in_an_empty_folder(
    tmp_path: Path, toy_root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod is killed three times, and its folder removed: as on a node that is gone."""
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
                [pod] = pods(run, "pod-1")
                family = [*pod.children(recursive=True), pod]
                pod.kill()
                psutil.wait_procs(family, 20)
                [folder] = nodes.glob("pod-1-*")
                shutil.rmtree(folder)
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


# ---------------------------------------------------------------- the parts
def spec_with(executor: dict[str, object], **aar: object) -> dict[str, object]:
    one = {"name": "rowan", "researcher": "random", "direction": "elicitation", **aar}
    return {"name": "toy", "tasks": ["gauss"], "aars": [one], "executor": executor}


def test_what_a_spec_may_ask_to_be_kept() -> None:
    kept = {"name": "slurm", "state": "kept"}
    with pytest.raises(ValueError, match="give `aars_per_pod`, which may be 1"):
        CampaignSpec.model_validate(spec_with(kept))
    made = CampaignSpec.model_validate(spec_with({**kept, "aars_per_pod": 1}))
    assert made.executor.state == "kept"
    external = {
        "researcher": "external",
        "external": {"agent": "claude-code", "model": "anthropic/x"},
    }
    with pytest.raises(ValueError, match="rowan is an external agent"):
        CampaignSpec.model_validate(spec_with({**kept, "aars_per_pod": 1}, **external))


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


def test_a_key_travels_sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, secret = "pod_" + "k" * 64, "s" * 32
    text = sealed(key, secret)
    assert key not in text and sealed(key, secret) != text and unsealed(text, secret) == key
    monkeypatch.setenv("AARLAB_POD_FOLDER", str(tmp_path))
    boot = Boot(name="pod-1", aars=["ada"], root=tmp_path, url="https://127.0.0.1:1", key=text)
    monkeypatch.setenv("AARLAB_POD_SECRET", "t" * 32)
    with pytest.raises(BadInput, match="is not the one of the campaign's machine"):
        joined(boot)
