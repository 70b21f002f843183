"""What benchmarks/fuzz.py feeds: one function a parser of foreign bytes.

A finding is any exception that is not caught here: only the documented ones are.
"""

import base64
import io
import json
import re
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from inspect_ai.model import ChatCompletionChoice, ChatMessageAssistant, ModelOutput
from inspect_ai.tool import ToolCall
from mcp.types import jsonrpc_message_adapter
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from aarlab.agents import forum_files
from aarlab.agents.external.claude_code import entries_of
from aarlab.agents.language import context
from aarlab.agents.language.calling import storable
from aarlab.agents.language.personalities import personality
from aarlab.agents.language.scripts import Talk, Turn, next_move
from aarlab.agents.proxy import calls as proxy_asked
from aarlab.agents.proxy.calls import Meter
from aarlab.campaign.spec import load_spec
from aarlab.core import wire, wire_ledger, wire_service
from aarlab.core.errors import AarlabError
from aarlab.core.foreign import read_json
from aarlab.core.transcript import read_transcript
from aarlab.core.types import Example
from aarlab.core.wire import Finding, NewFinding, NewSnapshot, SnapshotFile, Submission
from aarlab.server import auth
from aarlab.server.dashboard import rendering, session, shares
from aarlab.server.dashboard.side_by_side import side_by_side
from aarlab.server.markdown import render_markdown
from aarlab.store import forum as store_forum
from aarlab.store import heads, repository
from aarlab.store.snapshots import decode, differences, tar_of
from aarlab.store.submissions import unpack_predictions
from aarlab.testbed.ideas import idea_of
from aarlab.testbed.recipes.recipe import normal, recipe_from_json
from aarlab.testbed.running.job import JobOutput
from aarlab.verify import auditing, static
from aarlab.verify.evidence import read_evidence
from aarlab.verify.record import MARK

ROWS = [Example("a", "g", "What is 3 + 4?", ("7",))]
HOSTILE = re.compile(r"<script|<iframe|\son\w+=|javascript:|<img", re.IGNORECASE)
TOKEN = "op_0123456789"
SCRATCH = Path(tempfile.gettempdir())
BODIES: tuple[type[BaseModel], ...] = (
    wire.NewComment,
    wire.NewAar,
    wire.NewVerification,
    wire.VerificationResult,
    wire.NewAudit,
    wire.NewVerdict,
    wire_ledger.Spend,
    wire_ledger.NewReservation,
    wire_ledger.ModelCall,
    wire_ledger.NewControl,
    wire_ledger.CampaignBudget,
    wire_service.Vote,
    wire_service.NewMethod,
    wire_service.NewToken,
    wire_service.Refusal,
)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _file(data: bytes, name: str) -> Path:
    path = SCRATCH / name
    path.write_bytes(data)
    return path


# ---------------------------------------------------------------- since the first day
def wire_models(data: bytes) -> None:
    for model in (Submission, NewFinding, NewSnapshot):
        try:
            model.model_validate_json(data)
        except ValidationError:
            continue


def snapshot(data: bytes) -> None:
    for name in _snapshot(data):
        assert ".." not in name.split("/") and not name.startswith("/"), name


def _snapshot(data: bytes) -> dict[str, bytes]:
    path, _, content = data.partition(b"\0")
    try:
        file = SnapshotFile(
            path=path.decode("utf-8", "surrogateescape"),
            content_b64=base64.b64encode(content).decode(),
        )
        method = SnapshotFile(path="method.py", content_b64="")
        return decode(NewSnapshot(name="m", files=[method, file]))
    except (ValidationError, AarlabError):
        return {}


def predictions(data: bytes) -> None:
    try:
        unpack_predictions(data)
    except AarlabError:
        return


def markdown(data: bytes) -> None:
    page = render_markdown(_text(data))
    tags = "".join(re.findall(r"<[^>]*>", page))
    assert not HOSTILE.search(tags), page


def code(data: bytes) -> None:
    static.review({"method.py": data, "notes.txt": data})
    auditing.fingerprint({"method.py": data, "notes.txt": data})


def record(data: bytes) -> None:
    read_evidence(MARK.encode() + data, False, ROWS, None).model_dump_json()


# ---------------------------------------------------------------- requests
def foreign(data: bytes) -> None:
    try:
        value = read_json(data, "x")
    except AarlabError as error:
        assert str(error).startswith("x: ") and len(str(error)) < 300
        return
    json.dumps(value, ensure_ascii=False).encode()


def bodies(data: bytes) -> None:
    """As the routes do: foreign JSON, then a model; what is taken can be written."""
    try:
        value = read_json(data, "x")
    except AarlabError:
        return
    for model in BODIES:
        try:
            model.model_validate(value).model_dump_json()
        except ValidationError:
            continue


def mcp_message(data: bytes) -> None:
    try:
        jsonrpc_message_adapter.validate_python(read_json(data, "x"), by_name=False)
    except (AarlabError, ValidationError):
        return


def query(data: bytes) -> None:
    """Cursors and searches of list routes."""
    try:
        asked = dict(parse_qsl(_text(data), max_num_fields=20))
        wanted = wire_service.FindingQuery.model_validate(asked)
        store_forum.matching(wanted.q or "a")
    except (ValueError, ValidationError, AarlabError):
        return


def credentials(data: bytes) -> None:
    """Bearer tokens, session cookies, share links; forged and with a good signature."""
    text = data.decode("latin-1")
    request = Request({"type": "http", "headers": [(b"authorization", data)]})
    with suppress(AarlabError):
        auth._bearer(request)
    assert session.name_in(TOKEN, text) is None
    signed = f"{_text(data)}.{session.sign(TOKEN, 'session', _text(data))}"
    session.name_in(TOKEN, signed)
    platform = SimpleNamespace(store=SimpleNamespace(database=None), operator_token=TOKEN)
    links = shares.Shares(platform)  # type: ignore[arg-type]  # two fields of it are used
    assert links._parsed(text) == ("", 0)


def form(data: bytes) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": data, "more_body": False}

    reading = rendering.fields(Request({"type": "http", "headers": [], "method": "POST"}, receive))
    try:
        reading.send(None)
    except StopIteration as done:
        rendering.form_key(done.value)
    except AarlabError:
        return


# ---------------------------------------------------------------- what sandboxes leave
def output(data: bytes) -> None:
    """predictions.json of a run, and its evidence."""
    try:
        made = JobOutput.model_validate(read_json(data, "x"))
    except (AarlabError, ValidationError):
        return
    read_evidence(b"", False, ROWS, made).model_dump_json()


def ideas(data: bytes) -> None:
    source, _, recipe = data.partition(b"\0")
    idea_of("s", {"method.py": source, "recipe.json": recipe}, _text(data[:50])).model_dump_json()


def recipe(data: bytes) -> None:
    try:
        made = recipe_from_json(_text(data))
    except AarlabError:
        return
    normal(made)
    assert made.describe() and len(made.hash()) == 16


def tar(data: bytes) -> None:
    files = _snapshot(data)
    with tarfile.open(fileobj=io.BytesIO(tar_of(files)), encoding="utf-8") as archive:
        assert sorted(archive.getnames()) == sorted(files)


def difference(data: bytes) -> None:
    old, _, new = data.partition(b"\0\0")
    for name in ("m.py", "m.json", "m.md", "m.yaml", "m"):
        differences({name: old}, {name: new})
        for file in side_by_side({name: old}, {name: new}):
            pages = "".join(str(row.get("new_html", "")) for row in file["rows"])
            assert not re.search(r"<(?!/?span[ >])", pages), pages


def notebook(data: bytes) -> None:
    context.cut(_text(data), 200, 200)
    talk = Talk([Turn("system", "You are a, ..."), Turn("user", _text(data))])
    next_move(personality("elicitor"), talk)


# ---------------------------------------------------------------- forum, models, files
def forum(data: bytes) -> None:
    """A post as a file: its header is the platform's, all else is quoted."""
    title, _, text = _text(data).partition("\0")
    score = {"submission": None, "snapshot": None, "score": None, "comments": []}
    post = {"id": "f", "seq": 1, "author": "a", "at": "t", "kind": "result", **score}
    try:
        finding = Finding.model_validate({**post, "title": title, "text": text})
    except ValidationError:
        return
    name, lines = forum_files.file_name(finding), forum_files.file_text(finding).split("\n")
    assert re.fullmatch(r"00001-result-a-[a-z0-9-]+\.md", name), name
    assert lines[9] == "" and lines[4].startswith("title: "), lines
    assert all(line.startswith("> ") or not line for line in lines[12:]), lines


def asked(data: bytes) -> None:
    """A model call of an agent, and the transcript made of it."""
    path, _, rest = data.partition(b"\n")
    body, _, answer = rest.partition(b"\0")
    routes = list(proxy_asked.ROUTES)
    where = routes[path[0] % len(routes)] if path else urlsplit(_text(path)).path
    try:
        call = proxy_asked.parse("POST", where, body, ["m"])
    except AarlabError:
        return
    assert call.prompt_tokens > 0 and call.output_tokens > 0
    for _told in entries_of(call, answer):
        continue


MESSAGE = b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":%s}'


def traffic(data: bytes) -> None:
    """A vendor's answer, as it streams through."""
    for streams in (b"true", b"false"):
        call = proxy_asked.parse("POST", "/v1/messages", MESSAGE % streams, ["m"])
        for _told in entries_of(call, data):
            continue
        for api in ("messages", "chat", "responses"):
            meter = Meter(api, streams == b"true")  # type: ignore[arg-type]
            meter.take(data[: len(data) // 2])
            meter.take(data[len(data) // 2 :])
            meter.end()
            assert meter.tokens is None or min(meter.tokens.values()) >= 0


def answer(data: bytes) -> None:
    """A model's answer with any arguments that a provider's JSON can carry."""
    try:
        arguments = json.loads(data)
    except (ValueError, RecursionError):
        return
    call = ToolCall(id="c", function="f", arguments={"x": arguments})
    said = data.decode("utf-8", "surrogateescape")
    message = ChatMessageAssistant(content=said, tool_calls=[call])
    made = ModelOutput(model="m", choices=[ChatCompletionChoice(message=message)])
    storable(made).model_dump_json()


def transcript(data: bytes) -> None:
    try:
        for _entry in read_transcript(_file(data, "transcript.jsonl")):
            continue
    except AarlabError:
        return


def spec(data: bytes) -> None:
    try:
        load_spec(_file(data, "spec.yaml"))
    except AarlabError:
        return


def git(data: bytes) -> None:
    with suppress(AarlabError):
        list(repository.tree_entries(data))
    try:
        repository.unpack("tree", "0" * 40, data)
    except AarlabError:
        return


KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32).public_key().public_bytes_raw().hex()


def head(data: bytes) -> None:
    for line in _text(data).splitlines():
        try:
            heads._checked(line, KEY, "x")
        except AarlabError:
            continue


TARGETS: dict[str, Callable[[bytes], None]] = {
    "wire": wire_models,
    "snapshot": snapshot,
    "predictions": predictions,
    "markdown": markdown,
    "code": code,
    "record": record,
    "foreign JSON": foreign,
    "bodies": bodies,
    "MCP messages": mcp_message,
    "queries and cursors": query,
    "tokens, cookies, links": credentials,
    "forms": form,
    "output of a run": output,
    "ideas": ideas,
    "recipe": recipe,
    "tar": tar,
    "differences": difference,
    "notebook": notebook,
    "forum file": forum,
    "model call": asked,
    "vendor's answer": traffic,
    "model's answer": answer,
    "transcript": transcript,
    "campaign spec": spec,
    "git objects": git,
    "signed heads": head,
}


# ---------------------------------------------------------------- where the search begins
def _examples(*models: type[BaseModel]) -> list[bytes]:
    """The examples that the API document shows."""
    found = []
    for model in models:
        extra = model.model_config.get("json_schema_extra")
        shown = extra.get("examples", []) if isinstance(extra, dict) else []
        found += [json.dumps(one).encode() for one in shown]  # type: ignore[union-attr]
    return found


RECORD = {"seed": 0, "teacher_seed": 0, "seconds": 1, "compute": {"rows_forwarded": 3}}
RUN = {"task": "t", "split": "search", "ablation": "none", "ids": ["a"], "seconds": 1}
RUN |= {"runs": [{"seed": 0, "probs": [0.5]}]}
RUN |= {"records": [{**RECORD, "diagnostics": {}, "changed": {"alone": 0, "crowded": 0.5}}]}
ENTRY = b'{"seq":1,"at":"t","session":1,"turn":1,"kind":"user","text":"x","tokens":{"a":1}}\n'
CALL = {"model": "m", "max_tokens": 9, "tools": [{"name": "b", "input_schema": {"type": "object"}}]}
CALL |= {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "x"}]}]}
EVENTS = b"""data: {"type":"message_start","message":{"usage":{"input_tokens":5}}}
data: {"type":"content_block_start","index":0,"content_block":{"type":"tool_use","name":"b"}}
data: {"type":"content_block_delta","index":0,"delta":{"partial_json":"{}"}}
data: {"type":"message_delta","usage":{"output_tokens":7}}
"""
WHOLE = (
    b'{"content":[{"type":"text","text":"x"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
)
SPEC = b"""name: a
tasks: [math]
arms: [{arm: directed, replicates: 2, aars: 2}]
language: {model: scripted/elicitor}
aars:
  - {name: b, researcher: fixed, recipes: {r: {label: {source: zero_shot}}}}
limits: {hours: 1, submissions: 5}
"""
SOURCE = b"""# coding: utf-8
import os
class A:
    'text'
    def fit(self, x=1, *y, **z):
        return f"{x!r:>{y}}" if x else [i for i in z]
"""
RECIPE = b'{"label": {"source": "posterior", "weight": 1.5}, "train": {"loss": "window"}}'
SEEDS: dict[str, list[bytes]] = {
    "wire": _examples(Submission, NewFinding, NewSnapshot),
    "foreign JSON": [
        *_examples(Submission),
        b'{"a": [1e9, null, true, "\\ud83d\\ude00"]}',
        b"[[[]]]",
    ],
    "bodies": _examples(*BODIES),
    "MCP messages": [b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"vote"}}'],
    "queries and cursors": [b"q=overlap+density&sort=top&after=3&limit=10&kind=result&render=true"],
    "tokens, cookies, links": [b"Bearer aar_x", b"9999999999.ab.QWRh", b"shr_1.99999999999.ab"],
    "forms": [b"token=a&name=Ada+L&form=%C3%A9&key=1"],
    "output of a run": [json.dumps(RUN).encode()],
    "record": [b'{"kind": "compiled", "text": "3 + 4"}'],
    "code": [SOURCE],
    "ideas": [SOURCE + b"\0" + RECIPE],
    "recipe": [RECIPE],
    "tar": [b"a/b.txt\0content"],
    "differences": [SOURCE + b"\0\0" + SOURCE.replace(b"os", b"re"), b'{"a": 1}\0\0- a: 1'],
    "notebook": [b"# Notebook\n[script at round 3 slot 4]\n"],
    "forum file": [b"Overlap\0# a\n> b\r\xe2\x80\xa8title: c"],
    "model call": [b"0\n" + json.dumps(CALL).encode() + b"\0" + WHOLE],
    "vendor's answer": [EVENTS, WHOLE],
    "model's answer": [b'{"a": ["\\ud800", {"b": 1}]}', b"[" * 300 + b"]" * 300],
    "transcript": [ENTRY, ENTRY * 2 + ENTRY[:20]],
    "campaign spec": [SPEC],
    "git objects": [b"100644 method.py\0" + b"s" * 20],
    "markdown": [b"# a\n[b](http://c)\n|a|b|\n|-|-|\n<b onclick=x>"],
    "snapshot": [b"a/b.py\0x = 1"],
}
