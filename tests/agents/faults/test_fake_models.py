"""The fake endpoints are trusted by other tests, so the vendors' own clients check them."""

from typing import Any

import anthropic
import httpx2
import openai
import pytest
from fake_models import KEY, Call, Conversation, FakeModels, Fault, Reply

SECRET = "aar_secret_token"
TOOL = {"name": "bash", "description": "d", "input_schema": {"type": "object", "properties": {}}}
FUNCTION = {"name": "bash", "description": "d", "parameters": {"type": "object", "properties": {}}}


def reply(said: Conversation) -> Reply:
    """Calls a tool first, then says what came back."""
    if not said.last_results:
        return Reply("let me look", (Call("bash", {"cmd": "echo hello"}),))
    return Reply(f"it said {said.last_results}; my task: {said.system}; {said.answered} turn")


@pytest.fixture(scope="module")
def endpoint():
    with FakeModels(reply, secrets=[SECRET]) as fake:
        yield fake


@pytest.fixture
def fake(endpoint: FakeModels):
    endpoint.replan([])
    endpoint.reset()
    return endpoint


def claude(fake: FakeModels, retries: int = 0, key: str = KEY) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key=key, base_url=fake.anthropic_url, max_retries=retries)


def gpt(fake: FakeModels, retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(api_key=KEY, base_url=fake.openai_url, max_retries=retries)


def ask(
    client: anthropic.Anthropic, messages: Any = None, **options: Any
) -> anthropic.types.Message:
    asked = messages or [{"role": "user", "content": "go"}]
    return client.messages.create(
        model="claude-x", max_tokens=50, system="s", messages=asked, tools=[TOOL], **options
    )


def test_messages_with_a_tool_call_whole_and_streamed(fake: FakeModels) -> None:
    with claude(fake) as client:
        first = ask(client)
        assert [block.type for block in first.content] == ["text", "tool_use"]
        call = first.content[1]
        assert (call.name, call.input) == ("bash", {"cmd": "echo hello"})
        assert first.stop_reason == "tool_use"
        with client.messages.stream(
            model="claude-x",
            max_tokens=50,
            system="s",
            messages=[{"role": "user", "content": "go"}],
            tools=[TOOL],
        ) as stream:
            again = stream.get_final_message()
        assert again.content[1].input == call.input
        used = (again.usage.input_tokens, again.usage.output_tokens)
        assert used == (first.usage.input_tokens, first.usage.output_tokens)
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "hello"}
        talk = [
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": [result]},
        ]
        last = ask(client, talk)
        assert last.content[0].text == "it said hello; my task: s; 1 turn"
    counts = fake.counts()
    assert sorted(counts.paid.values()) == [1, 2] and len(counts.repeated) == 1
    assert counts.delivered == counts.paid
    told = first.usage.input_tokens * 2 + last.usage.input_tokens
    assert counts.tokens["input_tokens"] == told


def test_a_cache_request_gets_cache_figures(fake: FakeModels) -> None:
    text = {"type": "text", "text": "go", "cache_control": {"type": "ephemeral"}}
    with claude(fake) as client:
        usage = ask(client, [{"role": "user", "content": [text]}]).usage
    assert usage.cache_read_input_tokens and usage.cache_creation_input_tokens
    tokens = fake.counts().tokens
    assert tokens["cache_read_tokens"] == usage.cache_read_input_tokens
    assert tokens["cache_write_tokens"] == usage.cache_creation_input_tokens


def test_chat_and_responses_whole_and_streamed(fake: FakeModels) -> None:
    asked = [{"role": "system", "content": "s"}, {"role": "user", "content": "go"}]
    tool = {"type": "function", "function": FUNCTION}
    with gpt(fake) as client:
        whole = client.chat.completions.create(model="gpt-x", messages=asked, tools=[tool])
        call = whole.choices[0].message.tool_calls[0]
        assert (call.function.name, call.function.arguments) == ("bash", '{"cmd": "echo hello"}')
        with client.chat.completions.stream(
            model="gpt-x", messages=asked, tools=[tool], stream_options={"include_usage": True}
        ) as stream:
            streamed = stream.get_final_completion()
        assert (
            streamed.choices[0].message.tool_calls[0].function.arguments == call.function.arguments
        )
        assert streamed.usage.prompt_tokens == whole.usage.prompt_tokens
        flat = {"type": "function", **FUNCTION}
        made = client.responses.create(model="gpt-x", input="go", instructions="s", tools=[flat])
        assert made.output[1].name == "bash" and made.output_text == "let me look"
        with client.responses.stream(
            model="gpt-x", input="go", instructions="s", tools=[flat]
        ) as stream:
            events = [event.type for event in stream]
            final = stream.get_final_response()
        assert "response.function_call_arguments.delta" in events
        assert final.output_text == made.output_text and final.usage == made.usage
        out = {"type": "function_call_output", "call_id": made.output[1].call_id, "output": "hi"}
        talk = [{"role": "user", "content": "go"}, *made.output, out]
        said = client.responses.create(model="gpt-x", input=talk, instructions="s").output_text
        assert said.startswith("it said hi; my task: s")
    assert sorted(fake.counts().paid.values()) == [1, 2, 2]


@pytest.mark.parametrize(
    ("kind", "status", "error"),
    [
        ("rate_limit", 429, anthropic.RateLimitError),
        ("overloaded", 529, anthropic.InternalServerError),
        ("server_error", 500, anthropic.InternalServerError),
    ],
)
def test_faults_that_cost_nothing(fake: FakeModels, kind, status: int, error) -> None:
    fake.replan([Fault(kind, at=(1, 2), wait_s=0.2)])
    with claude(fake) as client, pytest.raises(error) as raised:
        ask(client)
    assert raised.value.status_code == status
    with claude(fake, retries=3) as client:
        assert ask(client).stop_reason == "tool_use", "the client's own retries get through"
    counts = fake.counts()
    assert counts.n_paid == 1 and counts.faults == {kind: 2}


def test_a_cut_answer_is_paid_and_not_delivered(fake: FakeModels) -> None:
    fake.replan([Fault("cut", at=(1, 2))])
    asked = [{"role": "user", "content": "go"}]
    with claude(fake) as client:
        with (
            pytest.raises(httpx2.RemoteProtocolError),
            client.messages.stream(model="claude-x", max_tokens=50, messages=asked) as stream,
        ):
            stream.get_final_message()
        with pytest.raises((httpx2.TransportError, anthropic.APIConnectionError)):
            client.messages.create(model="claude-x", max_tokens=50, messages=asked)
    counts = fake.counts()
    assert counts.n_paid == 2 and counts.delivered == {}


def test_faults_of_the_model(fake: FakeModels) -> None:
    plan = [
        Fault("refusal", at=(1,)),
        Fault("unknown_tool", at=(2,)),
        Fault("bad_arguments", at=(3,)),
    ]
    fake.replan([*plan, Fault("bad_json", at=(4,)), Fault("slow", at=(5,), wait_s=1.5)])
    with claude(fake) as client:
        assert ask(client).stop_reason == "refusal"
        assert ask(client).content[1].name == "no_such_tool"
        asked = [{"role": "user", "content": "go"}]
        with gpt(fake) as other:
            made = other.chat.completions.create(model="gpt-x", messages=asked)
            assert made.choices[0].message.tool_calls[0].function.arguments == '{"broken": '
        with pytest.raises(Exception, match=r"(?i)json|expecting|value|column"):
            ask(client)
        with pytest.raises(anthropic.APITimeoutError):
            ask(client, timeout=0.5)
    assert sum(fake.counts().faults.values()) == 5


def test_keys_and_secrets_are_watched(fake: FakeModels) -> None:
    with claude(fake, key="sk-other") as client, pytest.raises(anthropic.AuthenticationError):
        ask(client)
    with claude(fake) as client:
        ask(client, [{"role": "user", "content": f"my token is {SECRET}"}])
        ask(client, [{"role": "user", "content": f"the key is {KEY}"}])
    counts = fake.counts()
    assert counts.wrong_key == 1 and len(counts.leaks) == 2
    assert SECRET in counts.leaks[0] and KEY in counts.leaks[1]
