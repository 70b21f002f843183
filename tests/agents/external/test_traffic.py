"""The transcript made of an agent's model calls, whatever agent and vendor put into them."""

import json
from pathlib import Path

import pytest

from aarlab.agents.external.claude_code import Recorder
from aarlab.agents.proxy.calls import parse
from aarlab.core.errors import BadInput
from aarlab.core.transcript import read_transcript
from aarlab.core.wire_service import ModelCall

CALL = ModelCall(call="c1", model="anthropic/m", input_tokens=3)


def recorded(folder: Path, answer: bytes, streams: bool = False):
    body = {"model": "m", "stream": streams, "messages": [{"role": "user", "content": "go"}]}
    asked = parse("POST", "/v1/messages", json.dumps(body).encode(), ["m"])
    path = folder / "transcript.jsonl"
    Recorder(path, lambda text: text.replace("secret", "[secret]")).seen(asked, answer, CALL)
    return [(e.kind, e.text, e.tool) for e in read_transcript(path)]


def test_a_stream_is_put_together(tmp_path: Path) -> None:
    events = [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"text": "a secret"}},
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "tool_use", "id": "t", "name": "bash"},
        },
        {"type": "content_block_delta", "index": 1, "delta": {"partial_json": '{"x": 1}'}},
    ]
    raw = b"\n".join(b"data: " + json.dumps(event).encode() for event in events)
    assert recorded(tmp_path, raw, streams=True) == [
        ("user", "go", None),
        ("assistant", "a [secret]", None),
        ("tool_call", '{"x": 1}', "bash"),
    ]


@pytest.mark.parametrize(
    "event",
    [
        {"type": "content_block_start", "index": [1], "content_block": 7},
        {"type": "content_block_start", "content_block": {"type": "text", "text": 5}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use"}},
        {"type": "content_block_delta", "index": {}, "delta": {"text": "x"}},
    ],
)
def test_events_that_no_vendor_sends_lose_no_entry(tmp_path: Path, event: dict) -> None:
    delta = {"type": "content_block_delta", "index": event.get("index"), "delta": {"text": None}}
    raw = b"\n".join(b"data: " + json.dumps(one).encode() for one in (event, delta))
    assert recorded(tmp_path, raw, streams=True)[0] == ("user", "go", None)


def test_text_that_no_file_can_hold_is_recorded_all_the_same(tmp_path: Path) -> None:
    """A lone surrogate would otherwise take the whole call out of the transcript."""
    tool = {"type": "tool_use", "id": "\ud801", "name": "b\ud802", "input": {"x": "\ud803"}}
    answer = {"content": [{"type": "text", "text": "before\ud800after"}, tool]}
    told = recorded(tmp_path, json.dumps(answer).encode())
    assert ("assistant", "before?after", None) in told and told[2][2] == "b?"


def test_an_agent_cannot_send_what_would_not_be_recorded() -> None:
    body = b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}'
    with pytest.raises(BadInput, match="lone surrogate"):
        parse("POST", "/v1/messages", body, ["m"])


def test_turns_are_counted_on_after_a_restart(tmp_path: Path) -> None:
    for answer in (b'{"content": "a"}', b'{"content": "b"}'):
        recorded(tmp_path, answer)
    entries = read_transcript(tmp_path / "transcript.jsonl")
    assert [(e.turn, e.kind) for e in entries] == [
        *((1, "user"), (1, "assistant")),
        *((2, "user"), (2, "assistant")),
    ]
