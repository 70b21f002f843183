"""`kill -9` of an AAR, the server, the verifier or the whole campaign: nothing lost or doubled."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import yaml
from platform_kit import wait_for
from toy_campaign import (
    EXPECTED_SUBMISSIONS,
    EXPECTED_VERIFICATIONS,
    command,
    finished,
    kill_one,
    processes_of,
    toy_spec,
)

from aarlab.agents.state import load_state
from aarlab.core.layout import DataRoot, RunDir
from aarlab.report.load import load_export
from aarlab.store.log import verify_log

pytestmark = pytest.mark.gate


def start(run: RunDir, root: DataRoot, tmp_path: Path):
    spec = tmp_path / "toy.yaml"
    spec.write_text(yaml.safe_dump(toy_spec().model_dump(mode="json")))
    return command(root, "campaign", "run", str(spec), "--out", str(run.path))


def check_nothing_lost_or_doubled(run: RunDir) -> None:
    export = load_export(run.export)
    assert len(export.submissions) == EXPECTED_SUBMISSIONS
    assert len(export.findings) == EXPECTED_SUBMISSIONS
    assert len({s.snapshot for s in export.submissions}) == EXPECTED_SUBMISSIONS
    assert len(export.verifications) == EXPECTED_VERIFICATIONS
    assert {v.state for v in export.verifications} == {"done"}
    for aar in export.aars:
        state = load_state(run.aar(aar.name) / "state.json")
        mine = [s for s in export.submissions if s.aar == aar.name]
        assert [t.score.submission for t in state.done if t.score] == [s.id for s in mine]
        counted = sum(trial.device_s for trial in state.done)
        assert aar.spend["device_s"] == pytest.approx(counted)
    verify_log(run.database)


def test_kill_the_campaign_again_and_again_then_resume(tmp_path: Path, toy_root: DataRoot) -> None:
    run, rng = RunDir(tmp_path / "run"), random.Random(5)
    process = start(run, toy_root, tmp_path)
    while not run.spec.exists():
        time.sleep(0.1)
    for _ in range(4):
        time.sleep(rng.uniform(2.0, 6.0))
        if process.poll() is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        deadline = time.monotonic() + 15
        while processes_of(run.path) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert processes_of(run.path) == [], "the campaign died and left processes behind"
        process = command(toy_root, "campaign", "resume", str(run.path))
    code, out = finished(process)
    assert code == 0, out
    check_nothing_lost_or_doubled(run)


def test_kill_aars_server_and_verifier_while_it_runs(tmp_path: Path, toy_root: DataRoot) -> None:
    run, rng = RunDir(tmp_path / "run"), random.Random(6)
    process = start(run, toy_root, tmp_path)
    wait_for((run.aar("rowan") / "aar.log").exists, 120)
    assert kill_one(run.path, "aarlab.server", signal.SIGTERM)
    wait_for(lambda: "exit code 0" in run.events.read_text(), 120)
    kills = {"aarlab.agents": 0, "aarlab.server": 0, "aarlab.verify": 0}
    most = {"aarlab.agents": 3, "aarlab.server": 2, "aarlab.verify": 1}
    while process.poll() is None:
        time.sleep(rng.uniform(0.5, 1.5))
        module = rng.choice(list(kills))
        if kills[module] < most[module]:
            kills[module] += kill_one(run.path, module)
    code, out = finished(process)
    assert code == 0, out
    assert kills["aarlab.agents"] and kills["aarlab.server"], kills
    events = [json.loads(line) for line in run.events.read_text().splitlines()]
    assert any(event["kind"] == "process_restarted" for event in events)
    check_nothing_lost_or_doubled(run)


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_a_signal_says_how_to_go_on_and_leaves_nothing_running(
    number: signal.Signals, expected: int, tmp_path: Path, toy_root: DataRoot
) -> None:
    run = RunDir(tmp_path / "run")
    process = start(run, toy_root, tmp_path)
    while not (run.aar("rowan") / "state.json").exists():
        time.sleep(0.1)
        assert process.poll() is None
    os.kill(process.pid, number)
    code, out = finished(process, 60)
    assert code == expected and f"to resume: aarlab campaign resume {run.path}" in out
    assert processes_of(run.path) == []


def test_two_at_once_are_refused(tmp_path: Path, toy_root: DataRoot) -> None:
    run = RunDir(tmp_path / "run")
    process = start(run, toy_root, tmp_path)
    while not run.tokens.exists():
        time.sleep(0.1)
        assert process.poll() is None
    code, out = finished(command(toy_root, "campaign", "resume", str(run.path)), 60)
    assert code == 2 and "another process is running" in out
    os.kill(process.pid, signal.SIGINT)
    finished(process, 60)
