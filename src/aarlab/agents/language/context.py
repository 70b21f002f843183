"""How full the conversation is, and how it is made shorter. Pure functions of the messages.

Tokens are those of the provider's last usage plus an estimate of what came since: Inspect's own
counter downloads a file.
"""

import json
from collections.abc import Sequence
from typing import NamedTuple

from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageTool
from inspect_ai.tool import ToolInfo

CHARS_PER_TOKEN = 3.0
PER_MESSAGE = 8
FRESH_RESULTS = 6
HEAD, TAIL = 400, 200
FULL_ENOUGH = 0.75
TAIL_SHARE = 0.25


def estimate(messages: Sequence[ChatMessage]) -> int:
    """Tokens, rather too many than too few."""
    return sum(PER_MESSAGE + int(_chars(message) / CHARS_PER_TOKEN) for message in messages)


def _chars(message: ChatMessage) -> int:
    content = message.content
    size = len(content) if isinstance(content, str) else len(str([c.model_dump() for c in content]))
    if isinstance(message, ChatMessageAssistant):
        for call in message.tool_calls or []:
            size += len(call.function) + len(json.dumps(call.arguments))
    return size


def estimate_tools(tools: Sequence[ToolInfo]) -> int:
    return int(sum(len(tool.model_dump_json(exclude_none=True)) for tool in tools) / 3)


class Shortened(NamedTuple):
    messages: list[ChatMessage]
    saved_tokens: int


def shorten_results(messages: Sequence[ChatMessage]) -> Shortened:
    """Old tool results keep their start and end; the last FRESH_RESULTS stay whole."""
    places = [i for i, m in enumerate(messages) if isinstance(m, ChatMessageTool)]
    old = set(places[:-FRESH_RESULTS])
    changed = [
        m.model_copy(update={"content": cut(m.text, HEAD, TAIL)}) if i in old else m
        for i, m in enumerate(messages)
    ]
    return Shortened(changed, max(estimate(messages) - estimate(changed), 0))


def cut(text: str, head: int, tail: int) -> str:
    """Start and end of a text that is clearly longer; says how much is left out."""
    gone = len(text) - head - tail
    if gone < 100:
        return text
    return f"{text[:head]}\n... [{gone:,} characters left out] ...\n{text[len(text) - tail :]}"


def recent(messages: Sequence[ChatMessage], max_tokens: int) -> list[ChatMessage]:
    """The last whole turns that fit: it begins with an assistant message, or is empty."""
    best: list[ChatMessage] = []
    for start in range(len(messages) - 1, 0, -1):
        if not isinstance(messages[start], ChatMessageAssistant):
            continue
        tail = list(messages[start:])
        if estimate(tail) > max_tokens:
            break
        best = tail
    return best
