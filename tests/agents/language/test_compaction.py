"""A conversation that grows too long: shorter results, then a summary, then a fresh session."""

import language_kit as kit
import pytest
from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageTool, ModelOutput

from aarlab.agents.language import context
from aarlab.agents.language.context import estimate, recent, shorten_results
from aarlab.agents.language.prompts import text_of
from aarlab.agents.specs import LanguageSpec
from aarlab.core.errors import BadInput

SPEC = LanguageSpec(model="mockllm/model")
LONG = kit.calls(("bash", {"command": "seq 1 1500"}))


def _used(output: ModelOutput, messages: list[ChatMessage]) -> ModelOutput:
    """With the usage that a provider would report."""
    size = estimate(messages) + 3000  # the tools
    usage = output.usage.model_copy(update={"input_tokens": size})
    return output.model_copy(update={"usage": usage, "choices": output.choices})


def _until(tool_results: int, summary: str):
    """Calls until so many results were seen in this conversation, then writes to the notebook."""

    def reply(messages: list[ChatMessage]) -> ModelOutput:
        if text_of("summary").strip() in messages[-1].text:
            return _used(kit.answer(summary), messages)
        everything = "\n".join(m.text for m in messages)
        if "ENOUGH" in everything:
            return _used(kit.calls(("finish", {})), messages)
        seen = sum(isinstance(m, ChatMessageTool) for m in messages)
        return _used(kit.calls(("finish", {})) if seen >= tool_results else LONG, messages)

    return reply


def test_old_results_are_shortened_first(desk: kit.Bench) -> None:
    config = desk.config(SPEC, "short")
    state = kit.live(config, kit.mock_spec(_until(14, "none"), context_tokens=30_000))
    notes = [e.text for e in kit.transcript(config) if e.kind == "note"]
    assert any("old tool results were shortened" in text for text in notes)
    assert state.session == 1 and state.why.startswith("it finished")
    whole = [m for m in state.messages if isinstance(m, ChatMessageTool) and len(m.text) > 5000]
    assert len(whole) <= 12


def test_a_summary_takes_the_place_of_the_conversation(desk: kit.Bench) -> None:
    config = desk.config(SPEC, "sum")
    mock = kit.Mock(_until(99, "ENOUGH: I counted."))
    state = kit.live(config, kit.mock_spec(mock, context_tokens=12_000))
    assert state.session == 1
    told = [e.text for e in kit.transcript(config) if e.kind == "user"]
    assert "ENOUGH: I counted." in told[-1] and "Your remaining budget" in told[-1]
    assert estimate(state.messages) < 12_000
    with kit.connect(config) as platform:  # the summary is paid like any other call
        assert platform.me().spend["output_tokens"] == 10 * len(mock.asked)
    logs = sorted(path.name for path in (config.home / "logs").iterdir())
    assert len(logs) == 2


def test_a_useless_summary_leads_to_a_fresh_session(desk: kit.Bench) -> None:
    config = desk.config(SPEC, "fresh")

    def reply(messages: list[ChatMessage]) -> ModelOutput:
        if "Session 2 begins" in messages[1].text:
            return _used(kit.calls(("finish", {})), messages)
        if not any(isinstance(m, ChatMessageAssistant) for m in messages):
            note = {"path": "notebook.md", "text": "remember the milk"}
            return _used(kit.calls(("create_file", note)), messages)
        return _until(99, "blah " * 12_000)(messages)

    state = kit.live(config, kit.mock_spec(reply, context_tokens=12_000))
    assert state.session == 2
    assert "remember the milk" in state.messages[1].text
    assert [e.session for e in kit.transcript(config)][-1] == 2


def test_the_model_may_ask_for_a_fresh_session(desk: kit.Bench) -> None:
    config = desk.config(SPEC, "asked")

    def reply(messages: list[ChatMessage]) -> ModelOutput:
        ends = "Session 2 begins" in messages[1].text
        return kit.calls(("finish", {})) if ends else kit.calls(("new_session", {}))

    state = kit.live(config, kit.mock_spec(reply))
    assert (state.session, state.turn) == (2, 2)
    assert len(state.messages) == 4


def test_a_conversation_too_long_for_the_model_is_left(desk: kit.Bench) -> None:
    config = desk.config(SPEC, "overlong")

    def reply(messages: list[ChatMessage]) -> ModelOutput:
        if "Session 2 begins" in messages[1].text:
            return kit.calls(("finish", {}))
        return kit.answer("prompt is too long", stop="model_length")

    state = kit.live(config, kit.mock_spec(reply))
    assert state.session == 2
    assert any("too long for the model" in e.text for e in kit.transcript(config))


def test_pure_parts() -> None:
    messages: list[ChatMessage] = []
    for number in range(10):
        messages.append(LONG.message.model_copy())
        messages.append(ChatMessageTool(content="x" * 9_000 + str(number), tool_call_id="call0"))
    short = shorten_results(messages)
    assert short.saved_tokens > 4 * 2_500
    assert [len(m.text) < 1000 for m in short.messages if isinstance(m, ChatMessageTool)] == (
        [True] * 4 + [False] * 6
    )
    tail = recent(messages, 7_000)
    assert isinstance(tail[0], ChatMessageAssistant) and len(tail) == 4
    assert recent(messages, 100) == []
    assert context.cut("abc" * 1000, 10, 5).endswith("bcabc")


def test_a_context_that_holds_no_conversation_is_refused(desk: kit.Bench) -> None:
    config = desk.config(SPEC, "narrow")
    with pytest.raises(BadInput, match="prompt and tools alone need"):
        kit.live(config, kit.mock_spec(_until(1, ""), context_tokens=4_000))
