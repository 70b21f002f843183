"""Transcripts, Inspect's logs and the scripted researchers; no key in any of them."""

from pathlib import Path

import language_kit as kit
import pytest
from inspect_ai.log import read_eval_log
from inspect_ai.model import ChatMessageAssistant, ChatMessageUser

from aarlab.agents.language.models import Asker, ModelUnavailable, Patience, open_model
from aarlab.agents.language.personalities import PERSONALITIES, personality
from aarlab.agents.language.redaction import cleaner
from aarlab.agents.language.scripted import talk_of
from aarlab.agents.language.scripts import next_move
from aarlab.agents.specs import LanguageSpec
from aarlab.core.errors import BadInput, NotFound

SPEC = LanguageSpec(model="scripted/reweighter", model_args={"rounds": 1})


@pytest.fixture(scope="module")
def lived(desk: kit.Bench):
    config = desk.config(SPEC, "lived")
    return config, kit.live(config)


def test_a_scripted_researcher_does_research(lived, desk: kit.Bench) -> None:
    config, state = lived
    assert state.why == "it finished by itself: all 1 methods are tried"
    told = kit.results(config)
    assert any("defines no function fit" in text for text in told)  # its mistake, read and mended
    with kit.connect(config) as platform:
        assert platform.me().submissions_made == 1 and platform.me().methods_made == 1
        (post,) = [f for f in platform.findings() if f.author == "lived"]
    assert post.submission is not None and post.score is not None


def test_the_transcript_tells_all(lived) -> None:
    config, state = lived
    entries = kit.transcript(config)
    assert [e.kind for e in entries[:3]] == ["system", "user", "assistant"]
    calls = {e.call for e in entries if e.kind == "tool_call"}
    assert calls == {e.call for e in entries if e.kind == "tool_result"}
    said = [e for e in entries if e.kind == "assistant"]
    assert len(said) == state.turn
    assert sum(e.tokens["input_tokens"] for e in said) == state.spend["input_tokens"]
    assert all(e.dollars == 0.0 for e in said)


def test_inspect_reads_the_log(lived) -> None:
    config, state = lived
    log = read_eval_log(str(config.home / "logs" / "0001.eval"))
    assert (log.status, log.eval.model) == ("success", "scripted/reweighter")
    assert log.samples is not None
    assert [m.text for m in log.samples[0].messages] == [m.text for m in state.messages]


def test_no_token_in_anything_written_or_seen(lived) -> None:
    config, _ = lived
    token = config.token_file.read_text().strip().encode()
    for path in Path(config.home).rglob("*"):
        if path.is_file():
            assert token not in path.read_bytes(), path


def test_secrets_are_taken_out() -> None:
    clean = cleaner(["topsecretvalue", None, ""])
    said = clean("key topsecretvalue, sk-ant-api03-abcdefghijklmnop, Bearer abcdefgh12 sk-learn")
    assert said == "key [secret], [secret], [secret] sk-learn"


def test_a_spec_holds_no_key() -> None:
    with pytest.raises(BadInput, match="api_key"):
        open_model(LanguageSpec(model="openai/gpt-5", model_args={"api_key": "x"}))
    with pytest.raises(BadInput, match="not recognized"):
        open_model(LanguageSpec(model="nosuch/model"))


def test_without_a_key_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(ModelUnavailable, match="ANTHROPIC_API_KEY"):
        open_model(LanguageSpec(model="anthropic/claude-sonnet-4-5"))


def test_failures_are_retried_visibly_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = LanguageSpec(model="mockllm/model")
    asker = Asker(open_model(spec), spec, patience=Patience(0.01, 0.04, 0.3))
    heard: list[str] = []
    asker.on_failure = heard.append
    answers = [OSError("cut"), OSError("cut"), kit.answer("there")]

    async def generate(*_args, **_more):
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(asker.model, "generate", generate)
    monkeypatch.setattr(asker.model, "should_retry", lambda error: True)
    assert asker.ask([], []).completion == "there"
    assert len(heard) == 2 and "try 2" in heard[1] and "OSError: cut" in heard[1]
    answers[:] = [OSError("for ever")]
    with pytest.raises(ModelUnavailable, match="did not answer in"):
        asker.ask([], [])
    monkeypatch.setattr(asker.model, "should_retry", lambda error: False)
    with pytest.raises(ModelUnavailable, match="resume"):
        asker.ask([], [])
    asker.close()


def test_a_script_finds_its_place_again() -> None:
    who = personality("elicitor")
    talk = talk_of([ChatMessageUser(content="# Notebook\n[script at round 0 slot 12]")])
    step, move = next_move(who, talk)
    assert step == "r001s01" and "blended" in move.say
    done = kit.calls(("bash", {})).message
    assert isinstance(done, ChatMessageAssistant)
    assert next_move(who, talk_of([done]))[0] == "r000s00"


def test_the_scripts_there_are() -> None:
    assert {"majority", "executor", "flipper"} < set(PERSONALITIES) and len(PERSONALITIES) >= 9
    with pytest.raises(NotFound, match="there are combiner"):
        personality("nobody")


MORE = [pytest.param(name, marks=pytest.mark.gate) for name in ("executor", "pollster", "overseer")]


@pytest.mark.parametrize("name", ["majority", "flipper", *MORE])
def test_cheats_and_others_run(desk: kit.Bench, name: str) -> None:
    config = desk.config(LanguageSpec(model=f"scripted/{name}"), f"x-{name}")
    kit.live(config)
    with kit.connect(config) as platform:
        assert platform.me().submissions_made >= 1
