"""The process behind FakeModels: `python -m fake_server`; setup on stdin, port on stdout."""

import asyncio
import importlib
import json
import logging
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import uvicorn
from fake_shapes import answer_of, conversation_of, events_of
from fake_talk import (
    NOT_PAID,
    Answer,
    Api,
    Call,
    Fault,
    Reply,
    Usage,
    content_hash,
    usage_of,
)
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

KEY_HEADERS = ("x-api-key", "authorization")
MAX_SLOW_S = 600.0


class Cut(Exception):
    """Ends a response in its middle: the server drops the connection."""


@dataclass
class Fake:
    """The endpoint's state."""

    reply: Answer
    plan: list[Fault]
    key: str
    secrets: list[str]
    number: int = 0
    requests: int = 0
    paid: Counter[str] = field(default_factory=Counter)
    delivered: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    usages: dict[str, Usage] = field(default_factory=dict)
    wrong_key: int = 0
    leaks: list[str] = field(default_factory=list)
    unknown_routes: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, Any]:
        names = ("requests", "paid", "delivered", "faults", "tokens", "wrong_key", "leaks")
        distinct = Counter[str]()
        for content in self.delivered:
            distinct.update(kinds(self.usages[content]))
        told = {name: getattr(self, name) for name in (*names, "unknown_routes")}
        return {**told, "distinct_tokens": distinct}

    def due(self, body: str) -> Fault | None:
        self.requests += 1
        self.number += 1
        return next((fault for fault in self.plan if fault.hits(self.number, body)), None)

    def watch(self, request: Request, body: bytes) -> bool:
        """Note secrets that should not be here; is the key right?"""
        seen = [(name, value) for name, value in request.headers.items()]
        keys = [value.removeprefix("Bearer ") for name, value in seen if name in KEY_HEADERS]
        for secret in (*self.secrets, self.key):
            places = ["body"] if secret.encode() in body else []
            mine = secret == self.key
            places += [n for n, v in seen if secret in v and not (mine and n in KEY_HEADERS)]
            self.leaks += [f"{secret} in {place} of {request.url.path}" for place in places]
        right = keys == [self.key]
        self.wrong_key += not right
        return right

    def pay(self, content: str, usage: Usage) -> None:
        self.paid[content] += 1
        self.usages[content] = usage
        self.tokens.update(kinds(usage))


def kinds(usage: Usage) -> dict[str, int]:
    return {
        "input_tokens": usage.input,
        "output_tokens": usage.output,
        "cache_read_tokens": usage.cache_read,
        "cache_write_tokens": usage.cache_write,
    }


def error(api: Api, status: int, kind: str, message: str, wait_s: float | None = None) -> Response:
    told: dict[str, Any] = {"error": {"type": kind, "message": message}}
    if api == "messages":
        told = {"type": "error", **told, "request_id": "req_fake"}
    else:
        told["error"] |= {"param": None, "code": kind}
    headers = {} if wait_s is None else {"retry-after": f"{wait_s:g}"}
    return JSONResponse(told, status, headers)


def named(content: str, reply: Reply, fault: Fault | None) -> Reply:
    """Ids of tool calls follow from the request, where the reply gives none.

    Faults of the model's own are put in.
    """
    if fault and fault.kind == "refusal":
        return Reply("I cannot help with that.", refused=True)
    if fault and fault.kind == "unknown_tool":
        reply = Reply(reply.text, (Call("no_such_tool", {"x": 1}),))
    if fault and fault.kind == "bad_arguments" and not reply.calls:
        reply = Reply(reply.text, (Call("bash", {"cmd": "true"}),))
    calls = tuple(
        replace(c, id=c.id or f"toolu_{content[:18]}{i}") for i, c in enumerate(reply.calls)
    )
    return replace(reply, calls=calls)


async def respond(fake: Fake, api: Api, request: Request) -> Response:
    try:
        raw = await request.body()
    except ClientDisconnect:
        return Response(status_code=499)
    text = raw.decode()
    fault = fake.due(text)
    if not fake.watch(request, raw):
        return error(api, 401, "authentication_error", "invalid x-api-key")
    if fault and fault.kind == "window":
        sent = usage_of(api, json.loads(text), Reply()).prompt
        fault = replace(fault, message=fault.message or too_long(api, sent, fault.tokens))
        fault = fault if sent > fault.tokens else None
    if fault:
        fake.faults[fault.kind] += 1
        if fault.kind in NOT_PAID:
            return unpaid(api, fault)
        if fault.kind == "slow":
            await asyncio.sleep(min(fault.wait_s, MAX_SLOW_S))
    return answered(fake, api, json.loads(text), fault)


def too_long(api: Api, sent: int, most: int) -> str:
    if api == "messages":
        return f"prompt is too long: {sent} tokens > {most} maximum"
    return (
        f"This model's maximum context length is {most} tokens. However, your messages resulted in "
        f"{sent} tokens. Please reduce the length of the messages."
    )


def unpaid(api: Api, fault: Fault) -> Response:
    if fault.kind == "window":
        kind = "invalid_request_error" if api == "messages" else "context_length_exceeded"
        return error(api, 400, kind, fault.message)
    if fault.kind == "refused":
        return error(api, fault.status, fault.name, fault.message)
    if fault.kind == "rate_limit":
        return error(api, 429, "rate_limit_error", "too many requests", fault.wait_s)
    if fault.kind == "overloaded":
        return error(api, 529, "overloaded_error", "Overloaded")
    return error(api, 500, "api_error", "Internal server error")


def answered(fake: Fake, api: Api, body: dict[str, Any], fault: Fault | None) -> Response:
    content = content_hash(api, body)
    reply = named(content, fake.reply(conversation_of(api, body)), fault)
    usage = usage_of(api, body, reply)
    kind = fault.kind if fault else None
    answer = answer_of(api, body["model"], content, reply, usage, kind == "bad_arguments")
    fake.pay(content, usage)
    if kind == "bad_json":
        return Response(json.dumps(answer)[:-20] + "<html>", media_type="application/json")
    if not body.get("stream"):
        pieces, kind_of = [json.dumps(answer)], "application/json"
    else:
        asked = bool((body.get("stream_options") or {}).get("include_usage"))
        pieces = list(events_of(api, answer, asked, kind == "bad_arguments"))
        kind_of = "text/event-stream"
    cut = kind == "cut"
    return StreamingResponse(sent(fake, content, pieces, cut), media_type=kind_of)


async def sent(fake: Fake, content: str, pieces: list[str], cut: bool) -> AsyncIterator[str]:
    """Chunked, so that an answer that ends early is seen as cut."""
    if cut:
        whole = "".join(pieces)
        yield whole[: len(whole) // 2]
        await asyncio.sleep(0.05)
        raise Cut
    for piece in pieces:
        yield piece
    fake.delivered[content] += 1


def app_of(fake: Fake) -> Starlette:
    async def messages(request: Request) -> Response:
        return await respond(fake, "messages", request)

    async def chat(request: Request) -> Response:
        return await respond(fake, "chat", request)

    async def responses(request: Request) -> Response:
        return await respond(fake, "responses", request)

    async def count_tokens(request: Request) -> Response:
        return JSONResponse({"input_tokens": len(await request.body()) // 4 + 1})

    async def counts(request: Request) -> Response:
        return JSONResponse(fake.counts())

    async def plan(request: Request) -> Response:
        fake.plan, fake.number = faults_of(await request.json()), 0
        return JSONResponse({})

    async def reset(request: Request) -> Response:
        fresh = Fake(fake.reply, fake.plan, fake.key, fake.secrets)
        fake.__dict__.update(fresh.__dict__)
        return JSONResponse({})

    async def unknown(request: Request) -> Response:
        fake.unknown_routes.append(f"{request.method} {request.url.path}")
        return JSONResponse({"error": {"type": "not_found_error", "message": "no route"}}, 404)

    verbs = ["GET", "POST", "PUT", "DELETE", "HEAD"]
    return Starlette(
        routes=[
            Route("/v1/messages", messages, methods=["POST"]),
            Route("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
            Route("/v1/chat/completions", chat, methods=["POST"]),
            Route("/v1/responses", responses, methods=["POST"]),
            Route("/fake/counts", counts),
            Route("/fake/plan", plan, methods=["POST"]),
            Route("/fake/reset", reset, methods=["POST"]),
            Route("/{path:path}", unknown, methods=verbs),
        ]
    )


def faults_of(raw: list[dict[str, Any]]) -> list[Fault]:
    return [Fault(**{**fault, "at": tuple(fault["at"])}) for fault in raw]


def main() -> None:
    setup = json.loads(sys.stdin.readline())
    module, _, name = setup["reply"].partition(":")
    reply: Any = importlib.import_module(module)
    for part in name.split("."):
        reply = getattr(reply, part)
    fake = Fake(reply, faults_of(setup["plan"]), setup["key"], setup["secrets"])
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(256)
    print(listener.getsockname()[1], flush=True)
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # Cut is meant
    config = uvicorn.Config(app_of(fake), log_config=None, access_log=False, lifespan="off")
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))


if __name__ == "__main__":
    main()
