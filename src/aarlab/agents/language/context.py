"""How full the conversation is, and how it is made shorter. Pure functions of the messages.

Tokens are those of the provider's last usage plus an estimate of what came since: Inspect's own
counter downloads a file.

What becomes of a conversation that is too long: shorter results, a summary, a fresh session.
"""

import json
from collections.abc import Sequence
from typing import NamedTuple

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
)
from inspect_ai.tool import ToolInfo

from aarlab.agents.language.prompts import filled, text_of
from aarlab.agents.language.state import LoopState
from aarlab.agents.refusals import Refusal

CHARS_PER_TOKEN = 3.0
DENSE_CHARS_PER_TOKEN = 2.0
PER_MESSAGE = 8
FRESH_RESULTS = 6
HEAD, TAIL = 400, 200
FULL_ENOUGH = 0.75
ROOM_TO_SUM_UP = 0.9  # of the limit: the request for a summary and its answer come on top
# After a summary: share of the limit for the last turns, and how full it may be then.
KEPT_AFTER_SUMMARY = ((0.25, FULL_ENOUGH), (0.0, 0.9))
SAFE_SHARE = 0.95  # of a limit that the provider named: our count is an estimate
SHRINK = 0.75  # where it named none


def estimate(messages: Sequence[ChatMessage]) -> int:
    """Return an estimate of the tokens, rather too high than too low."""
    return sum(PER_MESSAGE + int(_chars(message) / CHARS_PER_TOKEN) for message in messages)


def _chars(message: ChatMessage) -> int:
    content = message.content
    size = len(content) if isinstance(content, str) else len(str([c.model_dump() for c in content]))
    if isinstance(message, ChatMessageAssistant):
        for call in message.tool_calls or []:
            size += len(call.function) + len(json.dumps(call.arguments))
    return size


def most_tokens(messages: Sequence[ChatMessage]) -> int:
    """Return an upper estimate of the tokens of `messages`, for a reservation.

    ASCII text counts as two characters per token, as in digits and hexadecimal. Other characters
    count as one token per byte, which is the most they can have.
    """
    total = 0
    for message in messages:
        content = message.content
        text = content if isinstance(content, str) else str([c.model_dump() for c in content])
        if isinstance(message, ChatMessageAssistant):
            text += "".join(c.function + json.dumps(c.arguments) for c in message.tool_calls or [])
        n_bytes, n_ascii = len(text.encode(errors="replace")), sum(map(str.isascii, text))
        total += PER_MESSAGE + int(n_ascii / DENSE_CHARS_PER_TOKEN) + n_bytes - n_ascii + 1
    return total


def estimate_tools(tools: Sequence[ToolInfo]) -> int:
    return int(sum(len(tool.model_dump_json(exclude_none=True)) for tool in tools) / 3)


class Shortened(NamedTuple):
    messages: list[ChatMessage]
    saved_tokens: int


def shorten_results(messages: Sequence[ChatMessage], fresh: int = FRESH_RESULTS) -> Shortened:
    """Cut old tool results to their start and end. The last `fresh` results stay whole."""
    places = [i for i, m in enumerate(messages) if isinstance(m, ChatMessageTool)]
    old = set(places[: len(places) - fresh])
    changed = [
        m.model_copy(update={"content": cut(m.text, HEAD, TAIL)}) if i in old else m
        for i, m in enumerate(messages)
    ]
    return Shortened(changed, max(estimate(messages) - estimate(changed), 0))


def learned_limit(refusal: Refusal, size: int, answer_tokens: int) -> int:
    """Return a limit for the conversation after the provider refused one of `size` tokens.

    The result is in tokens by our estimate. The limit that the provider named also has to hold the
    answer. Where our estimate is below the provider's count, the limit is lowered in proportion.
    """
    if refusal.limit is None:
        return int(size * SHRINK)
    room = refusal.limit - answer_tokens
    if room < refusal.limit // 4:
        room = refusal.limit // 2
    ours = min(size / refusal.sent, 1.0) if refusal.sent else 1.0
    learned = int(room * ours * SAFE_SHARE)
    return learned if learned < size else int(size * SHRINK)


def cut(text: str, head: int, tail: int) -> str:
    """Start and end of a text that is clearly longer; says how much is left out."""
    gone = len(text) - head - tail
    if gone < 100:
        return text
    return f"{text[:head]}\n... [{gone:,} characters left out] ...\n{text[len(text) - tail :]}"


def recent(messages: Sequence[ChatMessage], max_tokens: int) -> list[ChatMessage]:
    """Return the last whole turns that fit: from an assistant message on, or none."""
    best: list[ChatMessage] = []
    for start in range(len(messages) - 1, 0, -1):
        if not isinstance(messages[start], ChatMessageAssistant):
            continue
        tail = list(messages[start:])
        if estimate(tail) > max_tokens:
            break
        best = tail
    return best


NOTEBOOK = "notebook.md"
NO_NOTEBOOK = "(there is none yet: create notebook.md)"


def fresh_session(state: LoopState, system: str, notebook: str, budget: str) -> LoopState:
    """Return a conversation of system prompt, notebook and budget; no more of it is kept."""
    number = state.session + 1 if state.messages else state.session
    values = {"session": str(number), "budget": budget, "notebook": notebook or NO_NOTEBOOK}
    start = filled(text_of("start"), values)
    first = not state.messages
    state = state.but(session=number, part=state.part if first else state.part + 1)
    state = _restarted(state, [ChatMessageSystem(content=system), ChatMessageUser(content=start)])
    return state.said("system", system).said("user", start)


def summarised(state: LoopState, summary: str, budget: str, max_tokens: int) -> LoopState:
    """Start again from the system prompt, the model's own summary, and the last turns.

    Only whole turns are kept, of at most `max_tokens` together.
    """
    tail = recent(state.messages, max_tokens)
    text = filled(text_of("summarised"), {"summary": summary, "budget": budget})
    kept: list[ChatMessage] = [state.messages[0], ChatMessageUser(content=text), *tail]
    return _restarted(state.but(part=state.part + 1), kept).said("user", text)


def shortened(state: LoopState) -> LoopState:
    """Return the state with old tool results cut down."""
    messages, saved = shorten_results(state.messages)
    known = max(state.known_tokens - saved, estimate(messages[: state.known_messages]))
    known = min(known, state.known_tokens)
    note = f"old tool results were shortened by about {saved:,} tokens"
    return state.but(messages=messages, known_tokens=known).said("note", note)


def fitted(state: LoopState, max_tokens: int) -> LoopState:
    """Cut the conversation to `max_tokens`, so that a model with a small window can summarise it.

    The start and the last turns are kept. Long results keep only their start and end. The messages
    left out in the middle are still in the transcript.
    """
    short = shorten_results(state.messages, fresh=0).messages
    start, rest = list(short[:2]), list(short[2:])
    tail = recent(short, max(max_tokens - estimate(start), 0))
    left_out = len(rest) - len(tail)
    note = f"[From the platform] {left_out} earlier messages are left out here."
    gap: list[ChatMessage] = [ChatMessageUser(content=note)] if left_out else []
    state = state.but(messages=[*start, *gap, *tail], known_tokens=0, known_messages=0)
    return state.said("note", f"{left_out} earlier messages were left out to make it fit")


def without_last_results(state: LoopState, why: str) -> LoopState | None:
    """Replace the tool results that follow the model's last message by a note.

    Returns None where there are no such results. The provider had accepted the conversation up to
    them.
    """
    messages, changed = list(state.messages), False
    for place in range(len(messages) - 1, -1, -1):
        message = messages[place]
        if isinstance(message, ChatMessageAssistant):
            break
        if isinstance(message, ChatMessageTool):
            note = f"[left out: the model's provider refused this result: {why[:300]}]"
            messages[place] = message.model_copy(update={"content": note})
            changed = True
    return state.but(messages=messages) if changed else None


def _restarted(state: LoopState, messages: list[ChatMessage]) -> LoopState:
    return state.but(
        phase="ready",
        messages=messages,
        known_tokens=0,
        known_messages=0,
        calls_in_part=0,
        wants_session=False,
        empty_in_a_row=0,
    )
