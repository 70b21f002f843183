"""People steer a campaign that runs: real commands, real AAR processes, a verifier beside them."""

import base64
import json
import os
import signal
import time
from pathlib import Path

import pytest
import yaml
from platform_kit import wait_for
from toy_campaign import command, finished, processes_of, toy_spec

from aarlab.agents.state import load_state
from aarlab.campaign.spec import CampaignSpec, load_spec
from aarlab.campaign.status import CampaignStatus
from aarlab.client.platform import PlatformClient
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import NewSnapshot, SnapshotFile
from aarlab.core.wire_service import NewMethod
from aarlab.report.load import load_export
from aarlab.store.log import verify_log
from aarlab.testbed.methods.named_method import named_files

pytestmark = pytest.mark.gate


def start(tmp_path: Path, root: DataRoot, changes: dict) -> tuple[RunDir, object]:
    raw = {**toy_spec().model_dump(mode="json"), "aars": [], **changes}
    path, run = tmp_path / "spec.yaml", RunDir(tmp_path / "run")
    path.write_text(yaml.safe_dump(raw))
    load_spec(path)
    return run, command(root, "campaign", "run", str(path), "--out", str(run.path))


def say(root: DataRoot, *words: object) -> str:
    code, out = finished(command(root, *map(str, words)), 60)
    assert code == 0, out
    return out


def status(root: DataRoot, run: RunDir) -> CampaignStatus:
    return CampaignStatus.model_validate_json(say(root, "campaign", "status", run.path, "--json"))


def events(run: RunDir) -> list[dict]:
    return [json.loads(line) for line in run.events.read_text().splitlines()]


def trials(run: RunDir, name: str) -> int:
    return len(load_state(run.aar(name) / "state.json").done)


def code() -> NewSnapshot:
    encoded = {
        path: base64.b64encode(text.encode()).decode()
        for path, text in named_files("vanilla").items()
    }
    files = [SnapshotFile(path=path, content_b64=text) for path, text in encoded.items()]
    return NewSnapshot(name="by a guest", files=files)


def test_two_arms_two_replicates_and_a_guest(tmp_path: Path, toy_root: DataRoot) -> None:
    arms = [{"arm": arm, "replicates": 2, "aars": 1} for arm in ("random", "evolutionary")]
    guest = {"name": "guest", "researcher": "external", "arm": "guest", "team": ""}
    limits = {"submissions": 2, "hours": 1.0}
    run, process = start(tmp_path, toy_root, {"arms": arms, "aars": [guest], "limits": limits})
    wait_for(lambda: (run.tokens / "guest").exists() and run.socket.exists(), 60)
    token = (run.tokens / "guest").read_text().strip()
    with PlatformClient.over_socket(run.socket, token) as platform:
        snapshot = platform.put_snapshot(code())
        platform.request_verification(NewMethod(snapshot=snapshot.id))
        wait_for(lambda: platform.method_requests()[0].state == "verified", 120)
        assert process.poll() is None, "verified while the campaign runs"
        assert list(platform.findings()) == [], "other teams' findings are not the guest's"
    name = "random-r1-a1"
    wait_for(lambda: load_state(run.aar(name) / "state.json").finished, 120)
    say(toy_root, "aar", "extend", run.path, name, "--submissions", "1", "--by", "Ada")
    wait_for(lambda: trials(run, name) == 3, 60)
    found = status(toy_root, run)
    assert found.running and {aar.name for aar in found.aars if aar.done == 3} == {name}
    assert next(aar for aar in found.aars if aar.name == "guest").state.startswith("working")
    say(toy_root, "aar", "stop", run.path, "guest", "--why", "enough")
    exit_code, out = finished(process)
    assert exit_code == 0, out
    check_arms(run, name)


def check_arms(run: RunDir, extended: str) -> None:
    export = load_export(run.export)
    made = {aar.name: aar for aar in export.aars}
    assert {(a.arm, a.replicate, a.team) for a in made.values() if a.name != "guest"} == {
        (arm, number, f"{arm}-r{number}") for arm in ("random", "evolutionary") for number in (1, 2)
    }
    assert {n: a.submissions for n, a in made.items()} == {
        **dict.fromkeys(made, 2),
        extended: 3,
        "guest": 0,
    }
    assert made[extended].limits.submissions == 3
    for name in set(made) - {"guest"}:
        files = (run.aar(name) / "workspace" / "findings").glob("0*.md")
        assert {f"author: {name}"} == {path.read_text().splitlines()[1] for path in files}
    steered = [(c.action, c.aar, c.by, c.text) for c in export.controls]
    assert steered[0] == ("extend", extended, "Ada", "")
    assert steered[1][:2] == ("stop", "guest") and steered[1][3] == "enough"
    assert {v.aar for v in export.verifications} == set(made), "the guest's was asked for live"
    kinds = [event["kind"] for event in events(run)]
    assert kinds.index("verification_asked") < kinds.index("verification_queued")
    verify_log(run.database)


def counts(run: RunDir, name: str = "rowan") -> tuple[int, int]:
    return trials(run, name), len(load_state(run.aar(name) / "state.json").trials)


def settled(run: RunDir, seconds: float = 2.5) -> int:
    """The number of trials once it does not change; fails where it goes on and on."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        before = counts(run)
        time.sleep(seconds)
        if counts(run) == before and before[0] == before[1]:
            return before[0]
    raise AssertionError("it does not pause")


@pytest.mark.timeout(240)
def test_pause_resume_kill_and_stop(tmp_path: Path, toy_root: DataRoot) -> None:
    aars = [{"name": "rowan", "researcher": "random", "direction": "elicitation"}]
    changes = {"aars": aars, "limits": {"submissions": 500}}
    run, process = start(tmp_path, toy_root, changes)
    wait_for(lambda: trials(run, "rowan") >= 1, 60)
    say(toy_root, "aar", "pause", run.path, "rowan")
    done = settled(run)
    (paused,) = status(toy_root, run).aars
    time.sleep(2)
    (later,) = status(toy_root, run).aars
    assert later.state == paused.state == "paused" and later.hours == paused.hours
    say(toy_root, "aar", "message", run.path, "rowan", "look at the hard rows")
    say(toy_root, "campaign", "pause", run.path)
    say(toy_root, "aar", "resume", run.path, "rowan")
    assert settled(run, 2.0) == done, "the campaign's pause holds too"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    wait_for(lambda: processes_of(run.path) == [], 15)
    assert status(toy_root, run).aars[0].state == "interrupted"
    process = command(toy_root, "campaign", "resume", str(run.path))
    wait_for(lambda: trials(run, "rowan") > done, 60)
    say(toy_root, "campaign", "stop", run.path, "--why", "seen enough", "--by", "Ada")
    exit_code, out = finished(process)
    assert exit_code == 0, out
    export = load_export(run.export)
    assert [c.action for c in export.controls] == [
        *("pause", "message", "pause", "resume", "resume", "stop")
    ]
    assert done < len(export.submissions) < 500
    assert load_state(run.aar("rowan") / "state.json").why == "stopped by the operator"
    refused, out = finished(command(toy_root, "campaign", "pause", str(run.path)), 60)
    assert refused == 2 and "a stop is final" in " ".join(out.split())
    verify_log(run.database)


def test_a_spec_that_names_its_arms_is_frozen_with_their_aars(tmp_path: Path) -> None:
    raw = {"name": "x", "tasks": ["math"], "arms": [{"arm": "random", "aars": 2}]}
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(raw))
    assert len(load_spec(path).aars) == 2 == len(CampaignSpec.model_validate(raw).expanded().aars)
