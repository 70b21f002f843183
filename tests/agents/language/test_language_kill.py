"""Real `kill -9` of a real AAR process, in each of its phases."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import language_kit as kit
import pytest

from aarlab.agents.config import AarConfig
from aarlab.agents.language.state import Store
from aarlab.agents.language.transcripts import TranscriptWriter
from aarlab.agents.specs import LanguageSpec
from aarlab.agents.state import load_state
from aarlab.core.errors import Damaged

SLOW = {"rounds": 1, "seeds": 1, "think_s": 0.1, "spoils": False}


def _spawn(config: AarConfig) -> subprocess.Popen[bytes]:
    with (config.home / "aar.log").open("ab") as log:
        argv = ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", "aarlab.agents"]
        return subprocess.Popen([*argv, str(config.home / "aar.json")], stdout=log, stderr=log)


def _killed_in(config: AarConfig, phase: str, turns: int) -> None:
    """Starts it and kills it as soon as it is in that phase after so many turns."""
    process, end = _spawn(config), time.monotonic() + 60
    path = config.home / "loop.json"
    while time.monotonic() < end:
        state = json.loads(path.read_text()) if path.exists() else {"phase": "", "turn": 0}
        if state["phase"] == phase and state["turn"] >= turns:
            break
        assert process.poll() is None, (config.home / "aar.log").read_text()[-2000:]
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def _ended(config: AarConfig) -> None:
    assert _spawn(config).wait(120) == 0, (config.home / "aar.log").read_text()
    entries = kit.transcript(config)
    assert [e.seq for e in entries] == list(range(1, len(entries) + 1))
    assert load_state(config.state).finished
    assert kit.saved(config)["finished"]


@pytest.mark.gate
def test_killed_in_model_and_tools_phase(desk: kit.Bench) -> None:
    spec = LanguageSpec(model="scripted/simplifier", model_args=SLOW)
    config = desk.config(spec, "killed")
    for phase, turns in (("asking", 2), ("tools", 3), ("ready", 6)):
        _killed_in(config, phase, turns)
    _ended(config)
    whole = desk.config(spec, "whole")
    _ended(whole)
    with kit.connect(config) as one, kit.connect(whole) as two:
        a, b = one.me(), two.me()
        posts = [f for f in one.findings() if f.author == "killed"]
        assert len(posts) == 1
    assert (a.submissions_made, a.methods_made) == (b.submissions_made, b.methods_made)
    others = ("read_finding", "vote")  # the second sees the first one's posts
    steps = []
    for entries in (kit.transcript(config), kit.transcript(whole)):
        # A command that the kill cut off is told as such, and said once more.
        cut = {e.call for e in entries if e.text.startswith("interrupted by a restart")}
        calls = [e for e in entries if e.kind == "tool_call" and e.call not in cut]
        steps.append([e.tool for e in calls if e.tool not in others])
    assert steps[0] == steps[1]


@pytest.mark.slow
def test_killed_while_it_sums_up(desk: kit.Bench) -> None:
    args = {**SLOW, "rounds": 4}
    spec = LanguageSpec(model="scripted/simplifier", model_args=args, context_tokens=8_000)
    config = desk.config(spec, "summing")
    _killed_in(config, "summing_up", 1)
    assert kit.saved(config)["phase"] == "summing_up"
    _ended(config)
    told = [e for e in kit.transcript(config) if e.text.startswith("Your own summary has replaced")]
    assert told


def test_a_command_that_was_cut_off_is_reported(desk: kit.Bench) -> None:
    config = desk.config(LanguageSpec(model="mockllm/model"), "cut")
    turn = kit.calls(
        ("bash", {"command": "echo begun >> log; sleep 60"}), ("bash", {"command": "cat log"})
    )
    source = f"""
import sys
sys.path.insert(0, {str(Path(kit.__file__).parent)!r})
import language_kit as kit
from aarlab.agents.config import AarConfig
from inspect_ai.model import ModelOutput
config = AarConfig.model_validate_json(open(sys.argv[1]).read())
turn = ModelOutput.model_validate_json({turn.model_dump_json()!r})
kit.live(config, kit.mock_spec(kit.script(turn)))
"""
    argv = [sys.executable, "-W", "ignore", "-c", source, str(config.home / "aar.json")]
    process = subprocess.Popen(argv)
    log = config.workspace / "log"
    end = time.monotonic() + 30
    while not log.exists() and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(1.5)  # long enough for a sign of life
    process.kill()
    process.wait()
    subprocess.run(argv, check=True, timeout=60)
    assert kit.results(config)[:2] == ["interrupted by a restart; check before repeating", "begun"]
    with kit.connect(config) as platform:
        assert 0.5 < platform.me().spend["device_s"] < 40


def test_torn_files_are_never_read(desk: kit.Bench, tmp_path: Path) -> None:
    config = desk.config(LanguageSpec(model="mockllm/model"), "torn")
    kit.live(config, kit.mock_spec(kit.script(kit.calls(("my_budget", {})))))
    # What a write that was cut off leaves: a temporary file beside the whole one.
    half = (config.home / "loop.json").read_bytes()[:500]
    (config.home / ".loop.json.x1y2").write_bytes(half)
    transcript = config.home / "transcript.jsonl"
    whole = transcript.read_bytes()
    transcript.write_bytes(whole + b'{"seq": 99, "at": "2026')
    again = kit.live(config, kit.mock_spec(kit.script()))
    assert again.finished and transcript.read_bytes() == whole
    (config.home / "loop.json").write_bytes(half)
    store = Store(config.home, str)
    store.claim(100)
    with pytest.raises(Damaged, match="remove the AAR's folder"):
        store.load()


def test_a_transcript_without_any_whole_line_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "transcript.jsonl"
    path.write_bytes(b'{"seq": 1')
    assert TranscriptWriter(path).last == 0
    assert path.read_bytes() == b""
