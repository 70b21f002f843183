"""The wire formats of Anthropic's Messages and OpenAI's Chat Completions and Responses."""

import json
from collections.abc import Iterator
from typing import Any

from fake_talk import Api, Call, Conversation, Reply, Turn, Usage

BROKEN = '{"broken": '


def conversation_of(api: Api, body: dict[str, Any]) -> Conversation:
    read = {"messages": _read_messages, "chat": _read_chat, "responses": _read_responses}[api]
    system, turns = read(body)
    tools = [t.get("name") or t.get("function", {}).get("name", "") for t in body.get("tools", [])]
    return Conversation(api, body["model"], system, tuple(turns), tuple(tools))


def text_of(content: Any) -> str:
    """Of a string, a list of parts, or nothing."""
    if isinstance(content, str) or content is None:
        return content or ""
    return "".join(part.get("text") or "" for part in content if isinstance(part, dict))


def _read_messages(body: dict[str, Any]) -> tuple[str, list[Turn]]:
    turns = []
    for message in body["messages"]:
        content = message["content"]
        parts = [] if isinstance(content, str) else content
        calls = tuple(
            Call(p["name"], p["input"], p["id"]) for p in parts if p["type"] == "tool_use"
        )
        results = {
            p["tool_use_id"]: text_of(p.get("content")) for p in parts if p["type"] == "tool_result"
        }
        turns.append(Turn(message["role"], text_of(content), calls, results))
    return text_of(body.get("system")), turns


def _read_chat(body: dict[str, Any]) -> tuple[str, list[Turn]]:
    system, turns = [], []
    for message in body["messages"]:
        role, text = message["role"], text_of(message.get("content"))
        if role in ("system", "developer"):
            system.append(text)
        elif role == "tool":
            turns.append(Turn("user", results={message["tool_call_id"]: text}))
        else:
            calls = [c["function"] | {"id": c["id"]} for c in message.get("tool_calls") or []]
            read = tuple(Call(c["name"], _arguments(c["arguments"]), c["id"]) for c in calls)
            turns.append(Turn(role, text, read))
    return "\n".join(system), turns


def _read_responses(body: dict[str, Any]) -> tuple[str, list[Turn]]:
    given = body["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    system, turns = [body.get("instructions") or ""], []
    for item in items:
        kind = item.get("type", "message")
        if kind == "function_call":
            call = Call(item["name"], _arguments(item["arguments"]), item["call_id"])
            turns.append(Turn("assistant", calls=(call,)))
        elif kind == "function_call_output":
            turns.append(Turn("user", results={item["call_id"]: text_of(item["output"])}))
        elif kind == "message" and item["role"] in ("system", "developer"):
            system.append(text_of(item["content"]))
        elif kind == "message":
            turns.append(Turn(item["role"], text_of(item["content"])))
    return "\n".join(part for part in system if part), turns


def _arguments(text: str) -> dict[str, Any]:
    try:
        return json.loads(text or "{}")
    except ValueError:
        return {"unreadable": text}


# ---------------------------------------------------------------- answers
def answer_of(
    api: Api, model: str, name: str, reply: Reply, usage: Usage, broken: bool = False
) -> dict[str, Any]:
    """The whole answer; `broken` makes the tool calls' arguments malformed."""
    write = {"messages": _write_messages, "chat": _write_chat, "responses": _write_responses}[api]
    return write(model, name, reply, usage, broken)


def _json(call: Call, broken: bool) -> str:
    return BROKEN if broken else json.dumps(call.arguments)


def _write_messages(
    model: str, name: str, reply: Reply, usage: Usage, broken: bool
) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    if reply.text:
        content.append({"type": "text", "text": reply.text})
    for call in reply.calls:
        given = {"__broken": BROKEN} if broken else call.arguments
        content.append({"type": "tool_use", "id": call.id, "name": call.name, "input": given})
    why = "refusal" if reply.refused else "tool_use" if reply.calls else "end_turn"
    return {
        "id": f"msg_{name}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": why,
        "stop_sequence": None,
        "usage": {
            "input_tokens": usage.input,
            "output_tokens": usage.output,
            "cache_read_input_tokens": usage.cache_read,
            "cache_creation_input_tokens": usage.cache_write,
            "cache_creation": {
                "ephemeral_1h_input_tokens": usage.one_hour,
                "ephemeral_5m_input_tokens": usage.cache_write - usage.one_hour,
            },
        },
    }


def _chat_usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.output,
        "total_tokens": usage.prompt + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def _write_chat(model: str, name: str, reply: Reply, usage: Usage, broken: bool) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
    message["refusal"] = reply.text if reply.refused else None
    if reply.calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": _json(call, broken)},
            }
            for call in reply.calls
        ]
    why = "content_filter" if reply.refused else "tool_calls" if reply.calls else "stop"
    return {
        "id": f"chatcmpl-{name}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": why, "logprobs": None}],
        "usage": _chat_usage(usage),
    }


def _output_items(name: str, reply: Reply, broken: bool) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if reply.text:
        part = {"type": "output_text", "text": reply.text, "annotations": []}
        if reply.refused:
            part = {"type": "refusal", "refusal": reply.text}
        items.append(
            {
                "type": "message",
                "id": f"msg_{name}",
                "role": "assistant",
                "status": "completed",
                "content": [part],
            }
        )
    for number, call in enumerate(reply.calls):
        items.append(
            {
                "type": "function_call",
                "id": f"fc_{name}_{number}",
                "call_id": call.id,
                "name": call.name,
                "arguments": _json(call, broken),
                "status": "completed",
            }
        )
    return items


def _write_responses(
    model: str, name: str, reply: Reply, usage: Usage, broken: bool
) -> dict[str, Any]:
    return {
        "id": f"resp_{name}",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "model": model,
        "output": _output_items(name, reply, broken),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": usage.prompt,
            "input_tokens_details": {"cached_tokens": usage.cache_read},
            "output_tokens": usage.output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.prompt + usage.output,
        },
    }


# ---------------------------------------------------------------- streams
def events_of(
    api: Api, answer: dict[str, Any], wants_usage: bool, broken: bool = False
) -> Iterator[str]:
    """The answer as server-sent events, text and arguments in several pieces."""
    if api == "messages":
        yield from _message_events(answer, broken)
    elif api == "chat":
        yield from _chat_events(answer, wants_usage)
    else:
        yield from _response_events(answer)


def _named(kind: str, **facts: Any) -> str:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **facts})}\n\n"


def _pieces(text: str) -> Iterator[str]:
    size = max(1, len(text) // 3)
    for start in range(0, len(text), size):
        yield text[start : start + size]


def _message_events(answer: dict[str, Any], broken: bool) -> Iterator[str]:
    opened = {**answer, "content": [], "stop_reason": None}
    opened["usage"] = {**answer["usage"], "output_tokens": 1}
    yield _named("message_start", message=opened)
    yield _named("ping")
    for index, block in enumerate(answer["content"]):
        if block["type"] == "text":
            empty, kind, key, whole = {**block, "text": ""}, "text_delta", "text", block["text"]
        else:
            empty, kind, key = {**block, "input": {}}, "input_json_delta", "partial_json"
            whole = BROKEN if broken else json.dumps(block["input"])
        yield _named("content_block_start", index=index, content_block=empty)
        for piece in _pieces(whole):
            yield _named("content_block_delta", index=index, delta={"type": kind, key: piece})
        yield _named("content_block_stop", index=index)
    ended = {"stop_reason": answer["stop_reason"], "stop_sequence": None}
    usage = {"output_tokens": answer["usage"]["output_tokens"]}
    yield _named("message_delta", delta=ended, usage=usage)
    yield _named("message_stop")


def _chat_events(answer: dict[str, Any], wants_usage: bool) -> Iterator[str]:
    shared = {k: answer[k] for k in ("id", "created", "model")} | {
        "object": "chat.completion.chunk"
    }

    def chunk(delta: dict[str, Any], why: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": why}
        return f"data: {json.dumps({**shared, 'choices': [choice]})}\n\n"

    choice = answer["choices"][0]
    message = choice["message"]
    yield chunk({"role": "assistant", "content": ""})
    for piece in _pieces(message["content"] or ""):
        yield chunk({"content": piece})
    for index, call in enumerate(message.get("tool_calls", [])):
        function = {"name": call["function"]["name"], "arguments": ""}
        yield chunk({"tool_calls": [{**call, "index": index, "function": function}]})
        for piece in _pieces(call["function"]["arguments"]):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, choice["finish_reason"])
    if wants_usage:
        last = {**shared, "choices": [], "usage": answer["usage"]}
        yield f"data: {json.dumps(last)}\n\n"
    yield "data: [DONE]\n\n"


def _response_events(answer: dict[str, Any]) -> Iterator[str]:
    number = iter(range(10_000))

    def event(kind: str, **facts: Any) -> str:
        return _named(kind, sequence_number=next(number), **facts)

    opened = {**answer, "status": "in_progress", "output": [], "usage": None}
    yield event("response.created", response=opened)
    for index, item in enumerate(answer["output"]):
        at = {"item_id": item["id"], "output_index": index}
        if item["type"] == "function_call":
            empty = {**item, "arguments": "", "status": "in_progress"}
            yield event("response.output_item.added", output_index=index, item=empty)
            for piece in _pieces(item["arguments"]):
                yield event("response.function_call_arguments.delta", **at, delta=piece)
            given = item["arguments"]
            yield event("response.function_call_arguments.done", **at, arguments=given)
        else:
            empty = {**item, "content": [], "status": "in_progress"}
            yield event("response.output_item.added", output_index=index, item=empty)
            part, place = item["content"][0], {**at, "content_index": 0}
            yield event("response.content_part.added", **place, part={**part})
            for piece in _pieces(part.get("text", "")):
                yield event("response.output_text.delta", **place, delta=piece, logprobs=[])
            yield event("response.content_part.done", **place, part=part)
        yield event("response.output_item.done", output_index=index, item=item)
    yield event("response.completed", response=answer)
