"""What becomes of a conversation that is too long: shorter results, a summary, a fresh session."""

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
)

from aarlab.agents.language import context
from aarlab.agents.language.prompts import filled, text_of
from aarlab.agents.language.state import LoopState

NOTEBOOK = "notebook.md"
NO_NOTEBOOK = "(there is none yet: create notebook.md)"


def fresh_session(state: LoopState, system: str, notebook: str, budget: str) -> LoopState:
    """System prompt, notebook and budget: nothing else of the conversation is kept."""
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
    tail = context.recent(state.messages, max_tokens)
    text = filled(text_of("summarised"), {"summary": summary, "budget": budget})
    kept: list[ChatMessage] = [state.messages[0], ChatMessageUser(content=text), *tail]
    return _restarted(state.but(part=state.part + 1), kept).said("user", text)


def shortened(state: LoopState) -> LoopState:
    """Old tool results cut down."""
    messages, saved = context.shorten_results(state.messages)
    known = max(state.known_tokens - saved, context.estimate(messages[: state.known_messages]))
    known = min(known, state.known_tokens)
    note = f"old tool results were shortened by about {saved:,} tokens"
    return state.but(messages=messages, known_tokens=known).said("note", note)


def fitted(state: LoopState, max_tokens: int) -> LoopState:
    """Cut the conversation to `max_tokens`, so that a model with a small window can summarise it.

    The start and the last turns are kept. Long results keep only their start and end. The messages
    left out in the middle are still in the transcript.
    """
    short = context.shorten_results(state.messages, fresh=0).messages
    start, rest = list(short[:2]), list(short[2:])
    tail = context.recent(short, max(max_tokens - context.estimate(start), 0))
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
