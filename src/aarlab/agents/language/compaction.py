"""What becomes of a conversation that is too long: shorter results, a summary, a fresh session."""

from inspect_ai.model import ChatMessage, ChatMessageSystem, ChatMessageUser

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
    """System prompt, the model's own summary, and the last whole turns as they were."""
    tail = context.recent(state.messages, int(max_tokens * context.TAIL_SHARE))
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
