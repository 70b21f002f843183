"""The model proxy between the vendors' own clients and the fake endpoints."""

import json
import socket
import threading
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from fake_models import KEY, Call, Conversation, FakeModels, Fault, Reply
from platform_kit import wait_for
from proxy_kit import PRICE, TOKEN, MemoryBooks, Opened, opened, settings_of

from aarlab.agents.proxy.booking import Ledger
from aarlab.agents.proxy.calls import Meter, parse
from aarlab.agents.proxy.proxy import (
    MAX_CALLS_AT_ONCE,
    SOCKET,
    Proxy,
    listening,
    vendors_client,
)


def reply(said: Conversation) -> Reply:
    if said.tools and not said.last_results:
        return Reply("looking", (Call(said.tools[0], {"cmd": "ls"}),))
    return Reply("word " * 200)


@pytest.fixture(scope="module")
def endpoint():
    with FakeModels(reply, secrets=[TOKEN]) as fake:
        yield fake


@pytest.fixture
def fake(endpoint: FakeModels):
    endpoint.replan([])
    endpoint.reset()
    return endpoint


@pytest.fixture
def door(fake: FakeModels, tmp_path: Path):
    with opened(fake, tmp_path) as made:
        yield made


def claude(door: Opened, retries: int = 0) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key=TOKEN, base_url=door.url, max_retries=retries)


def gpt(door: Opened) -> openai.OpenAI:
    return openai.OpenAI(api_key=TOKEN, base_url=f"{door.url}/v1", max_retries=0)


def body(**more: Any) -> dict[str, Any]:
    asked = [{"role": "user", "content": "go"}]
    return {"model": "claude-x", "max_tokens": 30, "messages": asked, **more}


def test_usage_is_booked_for_every_interface_whole_and_streamed(
    fake: FakeModels, door: Opened
) -> None:
    cached = {"type": "text", "text": "go", "cache_control": {"type": "ephemeral"}}
    asked = body(messages=[{"role": "user", "content": [cached]}])
    chat = {"model": "gpt-x", "messages": [{"role": "user", "content": "go"}]}
    with claude(door) as client:
        client.messages.create(**asked)
        with client.messages.stream(**asked) as stream:
            assert stream.get_final_message().content[0].text.startswith("word word")
    with gpt(door) as client:
        client.chat.completions.create(**chat)
        pieces = list(client.chat.completions.create(**chat, stream=True))
        assert len(pieces) > 4
        client.responses.create(model="gpt-x", input="go")
        with client.responses.stream(model="gpt-x", input="go") as stream:
            assert stream.get_final_response().output_text.startswith("word")
    counts, books = fake.counts(), door.books
    assert books.tokens() == counts.tokens and all(counts.tokens.values())
    assert len(books.calls) == counts.n_paid == 6 and books.reserved == {}
    assert books.spent == sum(
        PRICE.dollars(
            **{k: getattr(call, k) for k in books.tokens()},
        )
        for call in books.calls.values()
    )
    assert len(door.seen) == 6 and counts.leaks == [] and counts.wrong_key == 0


def test_a_cache_entry_of_an_hour_is_reserved_and_booked_as_one(
    fake: FakeModels, door: Opened
) -> None:
    """Whole and streamed; before, the worst case held it at the rate of five minutes."""
    kept = {"type": "ephemeral", "ttl": "1h"}
    text = {"type": "text", "text": "go " * 500, "cache_control": kept}
    asked = body(messages=[{"role": "user", "content": [text]}])
    with claude(door) as client:
        client.messages.create(**asked)
        with client.messages.stream(**asked) as stream:
            stream.get_final_message()
    wanted = parse("POST", "/v1/messages", json.dumps(asked).encode(), ["claude-x"])
    worst = PRICE.worst(wanted.prompt_tokens, wanted.output_tokens, wanted.one_hour)
    for call in door.books.calls.values():
        kinds = {k: getattr(call, k) for k in door.books.tokens()}
        assert call.cache_write_tokens > 0
        assert call.dollars == PRICE.dollars(**kinds, one_hour_tokens=call.cache_write_tokens)
        assert PRICE.dollars(**kinds) < call.dollars <= worst


@pytest.mark.parametrize(
    ("part", "longer"),
    [
        ('{"cache_control": {"type": "ephemeral"}}', False),
        ('{"cache_control": {"type": "ephemeral", "ttl": "5m"}}', False),
        ('{"cache_control": {"type": "ephemeral", "ttl": "\\u0031h"}}', True),
        ('{"cache_control": {"type": "ephemeral", "ttl": "a week"}}', True),
    ],
)
def test_how_long_a_cache_entry_is_kept_is_read_wherever_it_stands(part, longer: bool) -> None:
    block = '{"type": "text", "text": "x", ' + part[1:]
    said = '[{"role": "user", "content": [' + block + "]}]"
    plain = '[{"role": "user", "content": "x"}]'
    for system, messages in (("[" + block + "]", plain), ("[]", said)):
        raw = f'{{"model": "claude-x", "system": {system}, "messages": {messages}}}'.encode()
        assert parse("POST", "/v1/messages", raw, ["claude-x"]).one_hour is longer


def test_what_the_answer_does_not_split_counts_as_asked_for(tmp_path: Path) -> None:
    """Also: passes of the vendor's own compaction, which its totals leave out; its dear tier."""
    books = MemoryBooks()
    ledger = Ledger(tmp_path / "calls.jsonl", lambda: books, lambda model: PRICE)
    kept = [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    begun = ledger.begin(
        parse("POST", "/v1/messages", json.dumps(body(system=kept)).encode(), ["claude-x"])
    )
    meter = Meter("messages", streams=False)
    usage = {"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": 10}
    meter.take(json.dumps({"usage": {**usage, "iterations": [usage, usage]}}).encode())
    meter.end()
    assert meter.tokens is not None and meter.tokens["cache_write_tokens"] == 20
    ended = ledger.finish(begun, meter.tokens, meter.one_hour_tokens, meter.dearer)
    assert ended.dollars == PRICE.dollars(2, 2, 0, 20, one_hour_tokens=20)
    compacts = {"edits": [{"type": "compact_20260112"}]}
    raw = body(context_management=compacts)
    twice = parse("POST", "/v1/messages", json.dumps(raw).encode(), ["claude-x"])
    assert twice.output_tokens == 2 * 30 and twice.passes == 2
    chat = {"model": "gpt-x", "messages": [], "max_tokens": 5}
    unsure = parse("POST", "/v1/chat/completions", json.dumps(chat).encode(), ["gpt-x"])
    plain = json.dumps({**chat, "service_tier": "default"}).encode()
    sure = parse("POST", "/v1/chat/completions", plain, ["gpt-x"])
    assert (unsure.dearer, sure.dearer) == (2.0, 1.0)
    meter = Meter("chat", streams=False)
    told = {"service_tier": "priority", "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    meter.take(json.dumps(told).encode())
    meter.end()
    begun = ledger.begin(unsure)
    ended = ledger.finish(begun, meter.tokens, meter.one_hour_tokens, meter.dearer)
    assert PRICE.dollars(3, 2) * 2 == ended.dollars <= begun.worst.dollars


def test_the_stream_is_passed_on_as_it_comes(fake: FakeModels, door: Opened) -> None:
    """What came before a cut has reached the agent: nothing waits for the end of the answer."""
    fake.replan([Fault("cut", at=(1,))])
    got = ""
    asked = body(stream=True)
    with door.client() as client, client.stream("POST", "/v1/messages", json=asked) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        with pytest.raises(httpx.RemoteProtocolError):
            for text in answer.iter_text():
                got += text
    assert got.startswith("event: message_start") and "event: content_block_delta" in got
    assert "message_stop" not in got


def test_the_budget_is_a_wall(fake: FakeModels, tmp_path: Path) -> None:
    books = MemoryBooks(cap=4_000 / 1024 * 4)
    with opened(fake, tmp_path, books) as door, claude(door, retries=3) as client:
        answered = 0
        with pytest.raises(anthropic.APIStatusError) as raised:
            for _ in range(10):
                client.messages.create(**body())
                answered += 1
        assert raised.value.status_code == 402 and "budget_exhausted" in raised.value.message
        assert raised.value.body["error"]["type"] == "billing_error"
        with gpt(door) as other, pytest.raises(openai.APIStatusError) as told:
            other.responses.create(model="gpt-x", input="go", max_output_tokens=5_000)
        assert told.value.status_code == 402 and "dollars are spent" in told.value.message
    counts = fake.counts()
    assert answered == counts.n_paid == counts.requests, "a refused call is not sent, nor retried"
    assert 0 < answered < 10 and books.reserved == {}


WRONG = {
    "route": ("POST", "/v1/files", {}, 404),
    "admin route": ("GET", "/v1/organizations/api_keys", {}, 404),
    "verb": ("GET", "/v1/messages", {}, 404),
    "path tricks": ("POST", "/v1/messages/../files", body(), 404),
    "model": ("POST", "/v1/messages", body(model="claude-opus"), 403),
    "no model": ("POST", "/v1/messages", {"messages": []}, 400),
    "no object": ("POST", "/v1/messages", [1], 400),
    "web search": ("POST", "/v1/messages", body(tools=[{"type": "web_search_20250305"}]), 403),
    "code": ("POST", "/v1/messages", body(tools=[{"type": "code_execution_20250825"}]), 403),
    "remote mcp": ("POST", "/v1/messages", body(mcp_servers=[{"url": "https://x"}]), 403),
    "remote mcp as a tool": (
        "POST",
        "/v1/responses",
        {"model": "gpt-x", "input": "go", "tools": [{"type": "mcp", "server_url": "https://x"}]},
        403,
    ),
    "chat search": (
        "POST",
        "/v1/chat/completions",
        {"model": "gpt-x", "messages": [], "web_search_options": {"x": 1}},
        403,
    ),
    "dearer tier": ("POST", "/v1/messages", body(speed="fast"), 403),
    "dearer tier, OpenAI": (
        "POST",
        "/v1/responses",
        {"model": "gpt-x", "input": "go", "service_tier": "priority"},
        403,
    ),
    "odd tier": ("POST", "/v1/messages", body(service_tier=["auto"]), 403),
    "stored talk": (
        "POST",
        "/v1/responses",
        {"model": "gpt-x", "input": "go", "previous_response_id": "resp_1"},
        403,
    ),
    "image address": (
        "POST",
        "/v1/messages",
        body(
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "source": {"type": "url", "url": "https://x/?secret"}}
                    ],
                }
            ]
        ),
        403,
    ),
    "image address, OpenAI": (
        "POST",
        "/v1/chat/completions",
        {
            "model": "gpt-x",
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "http://x/a"}}],
                }
            ],
        },
        403,
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_may_not_pass_is_not_sent(fake: FakeModels, door: Opened, name: str) -> None:
    verb, path, content, status = WRONG[name]
    with door.client() as client:
        answer = client.request(verb, path, content=json.dumps(content))
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]
    counts = fake.counts()
    assert counts.requests == 0 and counts.unknown_routes == [] and door.books.calls == {}


def test_arguments_of_tools_may_name_addresses(fake: FakeModels, door: Opened) -> None:
    used = {"type": "tool_use", "id": "t", "name": "bash", "input": {"url": "http://x"}}
    out = {"type": "tool_result", "tool_use_id": "t", "content": "see http://x"}
    talk = [
        {"role": "user", "content": "http://x is down"},
        {"role": "assistant", "content": [used]},
        {"role": "user", "content": [out]},
    ]
    tools = [{"name": "bash", "input_schema": {"type": "object"}}, {"type": "bash_20250124"}]
    with door.client() as client:
        assert client.post("/v1/messages", json=body(messages=talk, tools=tools)).status_code == 200


def test_the_key_is_added_and_never_shown(fake: FakeModels, door: Opened, tmp_path: Path) -> None:
    tricks = {"x-api-key": "sk-own", "authorization": "Bearer sk-own", "cookie": "c=1"}
    with door.client() as client:
        good = client.post("/v1/messages", json=body(), headers=tricks)
        assert good.status_code == 200
        fake.replan([Fault("server_error", at=(1,))])
        bad = client.post("/v1/messages", json=body())
        told = KEY in good.text + str(good.headers) + bad.text + str(bad.headers)
    assert not told and fake.counts().wrong_key == 0
    assert all(KEY not in f.read_text() for f in tmp_path.rglob("*") if f.is_file())


def test_a_refused_key_is_not_quoted(fake: FakeModels, tmp_path: Path) -> None:
    settings = settings_of(fake).model_copy(update={"anthropic_api_key": "sk-wrong"})
    wrong = type(settings).model_validate(
        {**settings.model_dump(), "anthropic_api_key": "sk-wrong-key"}
    )
    books = MemoryBooks()
    ledger = Ledger(tmp_path / "c.jsonl", lambda: books, lambda model: PRICE)
    with vendors_client(wrong) as vendors:
        proxy = Proxy(wrong, ledger, ["claude-x"], TOKEN, vendors, lambda *_: None)
        with listening(proxy, tmp_path / "m", port=0) as port:
            url = f"http://127.0.0.1:{port}/v1/messages"
            answer = httpx.post(url, json=body(), headers={"x-api-key": TOKEN})
    assert answer.status_code == 401 and "sk-wrong" not in answer.text
    assert books.spent == 0 and books.reserved == {}


def test_without_a_key_the_vendor_is_closed(fake: FakeModels, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    settings = type(settings_of(fake))(anthropic_base_url=fake.anthropic_url)
    ledger = Ledger(tmp_path / "c.jsonl", MemoryBooks, lambda model: PRICE)
    with vendors_client(settings) as vendors:
        proxy = Proxy(settings, ledger, ["claude-x"], TOKEN, vendors, lambda *_: None)
        with listening(proxy, tmp_path / "m", port=0) as port:
            url = f"http://127.0.0.1:{port}/v1/messages"
            answer = httpx.post(url, json=body(), headers={"x-api-key": TOKEN})
    assert answer.status_code == 404 and "ANTHROPIC_API_KEY" in answer.text


def test_the_tcp_door_asks_for_the_aars_token(fake: FakeModels, door: Opened) -> None:
    for headers in ({}, {"x-api-key": KEY}, {"authorization": "Bearer aar_other"}):
        answer = httpx.post(f"{door.url}/v1/messages", json=body(), headers=headers)
        assert answer.status_code == 403 and "token" in answer.text
    assert fake.counts().requests == 0


@pytest.mark.parametrize("kind", ["rate_limit", "overloaded", "server_error"])
def test_refusals_of_the_vendor_pass_and_cost_nothing(fake, door: Opened, kind: str) -> None:
    fake.replan([Fault(kind, at=(1,), wait_s=0.1)])
    with claude(door, retries=2) as client:
        assert client.messages.create(**body()).stop_reason == "end_turn"
    counts = fake.counts()
    assert counts.requests == 2 and door.books.tokens() == counts.tokens
    assert door.books.reserved == {}


def test_an_answer_cut_by_the_vendor_is_cut_for_the_agent_and_booked_at_its_worst(
    fake: FakeModels, door: Opened
) -> None:
    fake.replan([Fault("cut", at=(1, 2))])
    with door.client() as client:
        for streams in (True, False):
            with pytest.raises(httpx.RemoteProtocolError):
                client.post("/v1/messages", json=body(stream=streams))
    calls = list(door.books.calls.values())
    assert [call.output_tokens for call in calls] == [30, 30] and door.books.reserved == {}
    paid = fake.counts().tokens
    assert all(door.books.tokens()[k] >= paid[k] for k in ("input_tokens",))


def test_an_agent_that_hangs_up_pays_all_the_same(fake: FakeModels, door: Opened) -> None:
    fake.replan([Fault("slow", at=(1,), wait_s=0.5)])
    with door.client() as client, pytest.raises(httpx.ReadTimeout):
        client.post("/v1/messages", json=body(stream=True), timeout=0.2)
    wait_for(lambda: len(door.books.calls) == 1)
    assert door.books.tokens() == fake.counts().tokens


def test_agents_at_once_are_each_booked(fake: FakeModels, tmp_path: Path) -> None:
    """Two AARs with a proxy each, eight calls at once through each of them."""
    homes = [tmp_path / name for name in ("one", "two")]
    for home in homes:
        home.mkdir()
    with opened(fake, homes[0]) as one, opened(fake, homes[1]) as two:

        def talk(door: Opened) -> None:
            with claude(door) as client, client.messages.stream(**body()) as stream:
                stream.get_final_message()

        threads = [threading.Thread(target=talk, args=(door,)) for door in (one, two) * 8]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(one.books.calls) == len(two.books.calls) == 8
        total = {k: v + two.books.tokens()[k] for k, v in one.books.tokens().items()}
    assert total == fake.counts().tokens


def test_calls_at_once_cannot_pass_the_cap_together(fake: FakeModels, tmp_path: Path) -> None:
    """Each alone fits under the cap; a second one while the first is under way does not."""
    fake.replan([Fault("slow", at=(1,), wait_s=1.0)])
    books = MemoryBooks(cap=2_500 / 1024)
    with opened(fake, tmp_path, books) as door, door.client() as client:
        first = threading.Thread(
            target=client.post, args=("/v1/messages",), kwargs={"json": body()}
        )
        first.start()
        wait_for(lambda: bool(books.reserved))
        assert client.post("/v1/messages", json=body()).status_code == 402
        first.join()
    assert len(books.calls) == 1


def test_a_call_cut_by_kill_9_is_booked_once_after_the_restart(
    fake: FakeModels, tmp_path: Path
) -> None:
    """The journal as a process leaves it that dies: before the answer, and before the booking."""
    books = MemoryBooks()
    ledger = Ledger(tmp_path / "calls.jsonl", lambda: books, lambda model: PRICE)
    asked = parse("POST", "/v1/messages", json.dumps(body()).encode(), ["claude-x"])
    lost, told = ledger.begin(asked), ledger.begin(asked)
    record, books.record_call = books.record_call, None  # type: ignore[method-assign]
    with pytest.raises(TypeError):
        ledger.finish(told, {"input_tokens": 5, "output_tokens": 7})
    books.record_call = record  # type: ignore[method-assign]
    with (tmp_path / "calls.jsonl").open("a") as out:
        out.write('{"begun": {"call": "torn')
    with opened(fake, tmp_path, books):
        assert books.reserved == {}
        assert books.calls[lost.id] == lost.worst
        assert books.calls[told.id].output_tokens == 7
    before = dict(books.calls)
    with opened(fake, tmp_path, books):
        assert books.calls == before


@pytest.mark.parametrize(
    "header", ["Content-Length: 99999999999", "Content-Length: -5", "Transfer-Encoding: chunked"]
)
def test_bodies_without_an_honest_length_are_refused(door: Opened, header: str) -> None:
    with socket.socket(socket.AF_UNIX) as agent:
        agent.connect(str(door.folder / SOCKET))
        agent.sendall(f"POST /v1/messages HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n{{}}".encode())
        told = b"".join(iter(lambda: agent.recv(4096), b""))
    assert told.startswith(b"HTTP/1.1 400") and b"Content-Length" in told


def test_connections_without_end_do_not_stop_others_for_good(door: Opened) -> None:
    idle = []
    for _ in range(MAX_CALLS_AT_ONCE + 8):
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(5)
        one.connect(str(door.folder / SOCKET))
        idle.append(one)
    for one in idle:
        one.close()
    with door.client() as client:
        assert client.post("/v1/messages", json=body()).status_code == 200
