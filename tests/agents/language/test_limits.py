"""Budgets: ended by each limit with its reason, right to the token, passed by nothing."""

import language_kit as kit
import pytest

from aarlab.agents.prices import Price
from aarlab.agents.specs import LanguageSpec

SPEC = LanguageSpec(model="mockllm/model")
SLEEP = kit.calls(("bash", {"command": "sleep 0.2"}), tokens=1000)
PRICE = Price(model="mockllm/model", dated="test", input=10.0, output=100.0)


def _lived(desk: kit.Bench, name: str, prices: dict[str, Price] | None = None, **limits):
    config = desk.config(SPEC, name, **limits)
    config = config.model_copy(update={"prices": prices or {}})
    mock = kit.Mock(kit.script(*[SLEEP] * 60))
    state = kit.live(config, kit.mock_spec(mock, max_output_tokens=100))
    with kit.connect(config) as platform:
        return state, platform.me(), mock


def test_tokens_to_the_token(desk: kit.Bench) -> None:
    state, me, mock = _lived(desk, "tok", tokens=9_000)
    assert "tokens" in state.why and "the budget is" in state.why and state.finished
    n = len(mock.asked)
    assert me.spend["input_tokens"] == 1000 * n and me.spend["output_tokens"] == 10 * n
    assert n >= 2 and 1010 * n <= 9_000
    assert state.spend["input_tokens"] == 1000 * n


def test_dollars_are_never_passed(desk: kit.Bench) -> None:
    state, me, mock = _lived(desk, "usd", {"mockllm/model": PRICE}, dollars=0.1)
    n = len(mock.asked)
    assert "dollars" in state.why and n >= 2
    assert me.spend["dollars"] == pytest.approx(n * (1000 * 10 + 10 * 100) / 1e6)
    assert me.spend["dollars"] <= 0.1


def test_device_seconds(desk: kit.Bench) -> None:
    state, me, _ = _lived(desk, "dev", device_s=0.5)
    assert state.why == "the budget is used up: no device seconds of 0.5 left"
    assert 0.5 <= me.spend["device_s"] < 5


def test_research_hours(desk: kit.Bench) -> None:
    state, me, _ = _lived(desk, "hrs", hours=2.0 / 3600)
    assert "research hours" in state.why
    assert 2.0 <= me.research_s < 20


def test_turns(desk: kit.Bench) -> None:
    config = desk.config(SPEC, "turns")
    state = kit.live(config, kit.mock_spec(kit.script(*[SLEEP] * 60), max_turns=3))
    assert (state.turn, state.why) == (3, "all 3 turns are used up")


def test_an_aar_is_warned_and_sees_what_is_left(desk: kit.Bench) -> None:
    config = desk.config(SPEC, "warn", tokens=12_000, device_s=1000.0)
    moves = [kit.calls(("my_budget", {}), tokens=1500) for _ in range(9)]
    kit.live(config, kit.mock_spec(kit.script(*moves), max_output_tokens=50))
    entries = kit.transcript(config)
    warned = [e.text for e in entries if "nearly used up" in e.text]
    assert len(warned) == 1 and "tokens:" in warned[0]
    assert "tokens: 10,490 of 12,000 left" in kit.results(config)[0]
    assert "device seconds: 1,000 of 1,000 left" in kit.results(config)[0]


def test_after_the_last_submission_it_may_write_up(desk: kit.Bench) -> None:
    config = desk.config(LanguageSpec(model="scripted/distiller"), "last", submissions=1)
    state = kit.live(config)
    entries = kit.transcript(config)
    assert any("You have used your last submission" in e.text for e in entries)
    assert "no submissions of predictions left" in state.why or "finished by itself" in state.why
    with kit.connect(config) as platform:
        assert platform.me().submissions_made == 1
        assert [f for f in platform.findings() if f.author == "last"]
    assert state.turn < 40


def test_a_model_that_calls_no_tool_is_reminded_then_ended(desk: kit.Bench) -> None:
    config = desk.config(SPEC, "idle")
    state = kit.live(config, kit.mock_spec(lambda _messages: kit.answer("Hm.")))
    assert state.why == "the model called no tool in 20 answers in a row"
    assert any("You did not call a tool" in e.text for e in kit.transcript(config))


def test_refusals_and_cut_off_answers_are_answered(desk: kit.Bench) -> None:
    config = desk.config(SPEC, "refuse")
    moves = (
        kit.answer("I cannot help.", stop="content_filter"),
        kit.answer("so long", stop="max_tokens"),
    )
    state = kit.live(config, kit.mock_spec(kit.script(*moves)))
    entries = kit.transcript(config)
    assert state.why == "it finished by itself: done"
    assert [e.text for e in entries if e.kind == "error"] == ["the model refused"]
    told = [e.text for e in entries if e.kind == "user"]
    assert "as a refusal" in told[1] and "exceeded 8192 tokens" in told[2]
