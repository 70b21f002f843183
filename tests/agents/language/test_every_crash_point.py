"""Killed before and after every effect, one at a time: the AAR ends as if nothing had happened."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import language_kit as kit
import pytest
from inspect_ai.model import ChatMessage, ModelOutput

from aarlab.agents.config import AarConfig
from aarlab.agents.language.calling import INTERRUPTED
from aarlab.agents.language.models import Asker
from aarlab.agents.language.prompts import text_of
from aarlab.agents.language.state import Store
from aarlab.agents.language.tools.kit import Kit
from aarlab.agents.language.transcripts import TranscriptWriter
from aarlab.agents.specs import LanguageSpec
from aarlab.client.platform import PlatformClient
from aarlab.sandbox.workspace import copy_in

EFFECTS: tuple[tuple[type, tuple[str, ...]], ...] = (
    (Store, ("save", "keep_answer", "drop_answer", "request", "drop_requests", "started", "ended")),
    (TranscriptWriter, ("add",)),
    (PlatformClient, ("reserve", "record_call", "submit", "put_snapshot", "post_finding", "spend")),
    (Asker, ("ask",)),
    (Kit, ("run",)),
)
METHOD = "def fit(task, student, seed):\n    return None\n"
TURNS = (
    kit.calls(
        ("bash", {"command": "echo once >> log.txt; cat log.txt"}),
        ("post_finding", {"kind": "insight", "title": "t", "text": "x"}),
    ),
    kit.calls(
        ("create_file", {"path": "mine/method.py", "text": METHOD}),
        ("put_snapshot", {"folder": "mine", "name": "mine"}),
        ("submit_predictions", {"path": "predictions.json", "method": "mine"}),
    ),
    kit.answer("I think."),
)
N_ANSWERS = 4


class Crash(BaseException):
    """Stands for kill -9: nothing after it runs."""


class Points:
    """Counts effects, and crashes at one of them."""

    def __init__(self) -> None:
        self.seen, self.at, self.done = 0, 0, Counter[str]()

    def tick(self) -> None:
        self.seen += 1
        if self.seen == self.at:
            raise Crash

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **more: Any) -> Any:
            self.tick()
            self.done[name] += 1
            result = call(*args, **more)
            self.tick()
            return result

        return counted


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> Points:
    made = Points()
    for owner, names in EFFECTS:
        for name in names:
            monkeypatch.setattr(owner, name, made.around(name, getattr(owner, name)))
    return made


def _aar(desk: kit.Bench, name: str) -> tuple[AarConfig, LanguageSpec]:
    config = desk.config(LanguageSpec(model="mockllm/model", context_tokens=50_000), name)
    rows = (config.public_task / "inputs" / "search.jsonl").read_text().splitlines()
    ids = [json.loads(row)["id"] for row in rows]
    output = {
        "task": "gauss",
        "split": "search",
        "ablation": "none",
        "ids": ids,
        "runs": [{"seed": 0, "probs": [0.5 + (i % 7) / 20 for i in range(len(ids))]}],
        "records": [],
        "seconds": 1.0,
    }
    spec = kit.mock_spec(kit.script(*TURNS))
    with kit.aar(config, spec) as aar:
        copy_in(aar.kit.sandbox, {"predictions.json": json.dumps(output).encode()})
    return config, spec


def _killed_once(config: AarConfig, spec: LanguageSpec, points: Points, at: int) -> bool:
    """Lives until the crash point, then to the end; False where there is no such point."""
    points.seen, points.at = 0, at
    try:
        kit.live(config, spec)
    except Crash:
        points.at = 0
        kit.live(config, spec)
        return True
    return False


def _check(config: AarConfig, points: Points) -> None:
    entries = kit.transcript(config)
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    told = [e for e in entries if e.kind == "tool_result"]
    assert len(told) == 6 and len({e.call for e in told}) == 6
    assert sum(e.kind == "assistant" for e in entries) == N_ANSWERS
    assert entries[-1].text == "finished: it finished by itself: done"
    assert not list((config.home / "answers").iterdir())
    with kit.connect(config) as platform:
        me = platform.me()
        posted = [f for f in platform.findings() if f.author == config.name]
        snapshots = platform.snapshots(aar=config.name)
    assert (me.submissions_made, len(posted), len(snapshots)) == (1, 1, 1)
    assert me.spend["input_tokens"] == 100 * N_ANSWERS
    assert me.spend["output_tokens"] == 10 * N_ANSWERS
    log = config.workspace / "log.txt"
    once = log.read_text().splitlines() if log.exists() else []
    assert once == ["once"] or (once == [] and told[0].text == INTERRUPTED)
    asked = points.done["ask"]
    assert N_ANSWERS <= asked <= N_ANSWERS + 1


def _all_points(desk: kit.Bench, points: Points, first: int, step: int) -> tuple[int, int]:
    repeated = 0
    for tried, at in enumerate(range(first, 10_000, step)):
        config, spec = _aar(desk, f"c{at:04d}")
        points.done.clear()
        points.at = 0
        if not _killed_once(config, spec, points, at):
            return tried, repeated
        _check(config, points)
        repeated += points.done["ask"] - N_ANSWERS
    raise AssertionError("no end")


@pytest.mark.gate
def test_some_crash_points(desk: kit.Bench, points: Points) -> None:
    tried, _ = _all_points(desk, points, first=3, step=17)
    assert tried >= 5


def _summing(messages: list[ChatMessage]) -> ModelOutput:
    """One tool call, then its result is too long for the context; a summary, then the end."""
    if text_of("summary").strip() in messages[-1].text:
        return kit.answer("SUMMARY of it", tokens=9_000)
    if "SUMMARY of it" in messages[1].text:
        return kit.calls(("finish", {"reason": "done"}), tokens=3_000)
    return kit.calls(("bash", {"command": "seq 1 4000"}), tokens=9_000)


def _summary_points(desk: kit.Bench, points: Points, first: int, step: int) -> int:
    for tried, at in enumerate(range(first, 10_000, step)):
        config = desk.config(LanguageSpec(model="mockllm/model"), f"s{at:04d}-{step}")
        points.done.clear()
        spec = kit.mock_spec(_summing, context_tokens=12_000)
        if not _killed_once(config, spec, points, at):
            return tried
        entries = kit.transcript(config)
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
        said = [e.text for e in entries if e.kind == "assistant"]
        assert said.count("SUMMARY of it") == 1 and kit.saved(config)["session"] == 1
        with kit.connect(config) as platform:
            assert platform.me().spend["output_tokens"] == 10 * len(said)
        assert points.done["ask"] <= len(said) + 1
    raise AssertionError("no end")


@pytest.mark.gate
def test_some_crash_points_of_a_summary(desk: kit.Bench, points: Points) -> None:
    assert _summary_points(desk, points, first=6, step=13) >= 3


@pytest.mark.slow
def test_every_crash_point_of_a_summary(desk: kit.Bench, points: Points) -> None:
    assert _summary_points(desk, points, first=1, step=1) > 40


@pytest.mark.slow
def test_every_crash_point(desk: kit.Bench, points: Points) -> None:
    tried, repeated = _all_points(desk, points, first=1, step=1)
    assert tried > 80
    # Only a call that was answered but not yet on disk is made twice: one point for each call.
    assert repeated <= 2 * N_ANSWERS
