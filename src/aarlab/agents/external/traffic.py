"""An external agent's transcript, made of its model calls as the proxy saw them.

Covered: what the model said and which tools it called, and the results that the agent sent back
since the call before. Not covered: interfaces other than Anthropic's; what the agent did unsaid.
"""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aarlab.agents.language.transcripts import TranscriptWriter
from aarlab.agents.proxy.asked import Asked
from aarlab.core.clock import now_iso
from aarlab.core.foreign import storable
from aarlab.core.ledger import TOKEN_KINDS
from aarlab.core.transcript import EntryKind, TranscriptEntry
from aarlab.core.wire_service import ModelCall

MAX_TEXT = 20_000


class Recorder:
    """`clean` takes secrets out. One per AAR; calls may come from several threads."""

    def __init__(self, path: Path, clean: Callable[[str], str]) -> None:
        self._writer, self._clean = TranscriptWriter(path), clean
        self._lock, self._turn = threading.Lock(), self._writer.last

    def seen(self, asked: Asked, raw: bytes, call: ModelCall) -> None:
        if asked.api != "messages":
            return
        with self._lock:
            self._turn += 1
            made = [
                TranscriptEntry(
                    seq=self._writer.last + 1 + number,
                    at=now_iso(),
                    session=1,
                    turn=self._turn,
                    kind=kind,
                    text=storable(self._clean(text))[:MAX_TEXT],
                    tool=tool and storable(tool),
                    call=id_ and storable(id_),
                    tokens={k: v for k in TOKEN_KINDS if (v := getattr(call, k))}
                    if kind == "assistant"
                    else {},
                    dollars=call.dollars if kind == "assistant" else None,
                )
                for number, (kind, text, tool, id_) in enumerate(entries_of(asked, raw))
            ]
            self._writer.add(made)


Told = tuple[EntryKind, str, str | None, str | None]


def entries_of(asked: Asked, raw: bytes) -> Iterator[Told]:
    """What is new in the request, then the answer: kind, text, tool, id of the call."""
    messages = asked.raw.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else {}
    for part in _parts(last.get("content") if isinstance(last, dict) else None):
        if part.get("type") == "tool_result":
            yield "tool_result", _text(part.get("content")), None, str(part.get("tool_use_id"))
        elif part.get("type") == "text":
            yield "user", str(part.get("text")), None, None
    blocks = list(_streamed(raw) if asked.streams else _parts(_json(raw).get("content")))
    said = "\n".join(str(b.get("text") or b.get("thinking") or "") for b in blocks).strip()
    yield "assistant", said, None, None
    for block in blocks:
        if block.get("type") == "tool_use":
            arguments = json.dumps(block.get("input"), ensure_ascii=False)
            yield "tool_call", arguments, str(block.get("name")), str(block.get("id"))


def _streamed(raw: bytes) -> Iterator[dict[str, Any]]:
    """Content blocks put together from the events of a stream."""
    blocks: dict[str, dict[str, Any]] = {}
    for line in raw.split(b"\n"):
        event = _json(line[5:]) if line.startswith(b"data:") else {}
        index, delta = str(event.get("index")), event.get("delta")
        if event.get("type") == "content_block_start":
            begun = event.get("content_block")
            blocks[index] = dict(begun) if isinstance(begun, dict) else {}
        elif index in blocks and isinstance(delta, dict):
            for name in ("text", "thinking", "partial_json"):
                blocks[index][name] = str(blocks[index].get(name, "")) + str(delta.get(name, ""))
    for block in blocks.values():
        if block.get("type") == "tool_use":
            block["input"] = _json(str(block.get("partial_json", "")).encode(errors="replace"))
        yield block


def _json(raw: bytes) -> dict[str, Any]:
    try:
        read = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _parts(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [p for p in content if isinstance(p, dict)] if isinstance(content, list) else []


def _text(content: Any) -> str:
    return "".join(str(part.get("text") or "") for part in _parts(content))
