"""Answers the tool calls of a turn, one by one, each saved before the next begins."""

import json
import logging
import time
from dataclasses import dataclass

from inspect_ai.model import ChatMessageAssistant, ChatMessageTool
from inspect_ai.tool import ToolCall, ToolCallError

from aarlab.agents.language.calling import told
from aarlab.agents.language.state import Background, LoopState, Running
from aarlab.agents.language.tools.kit import Kit
from aarlab.agents.language.tools.tool import Place, Result, Tool, WrongCall, find_tool
from aarlab.core.errors import AarlabError, BadInput, Unreachable
from aarlab.core.foreign import storable

LOG = logging.getLogger("aarlab.agents")
INTERRUPTED = "interrupted by a restart; check before repeating"
ALERT_EVERY = 50


@dataclass
class Answerer:
    """A tool's error goes to the model, never further."""

    name: str
    kit: Kit
    tools: tuple[Tool, ...]

    def next(self, state: LoopState) -> LoopState | None:
        """With one more result, not yet saved; None when all calls have theirs."""
        calls, index = _last_assistant(state).tool_calls or [], state.answered
        if index >= len(calls):
            return None
        call = calls[index]
        place = Place(f"{self.name}-t{state.turn:06d}-{index:02d}", state)
        text = json.dumps(call.arguments, ensure_ascii=False)
        state = state.said("tool_call", text, tool=call.function, call=place.key)
        if self._was_cut_off(state, index, place):
            return _result(state, call, place, INTERRUPTED, error=True)
        return self._answered(state, call, index, place)

    def _was_cut_off(self, state: LoopState, index: int, place: Place) -> bool:
        """Whether an earlier process died in this call; the device seconds it had are booked."""
        mark = self.kit.store.running()
        if mark is None or (mark.turn, mark.index) != (state.turn, index):
            return False
        self.kit.book(mark.seen_s - mark.started_s, place.key, "interrupted")
        return True

    def _answered(self, state: LoopState, call: ToolCall, index: int, place: Place) -> LoopState:
        try:
            done = self._done(state, call, index, place)
        except (WrongCall, BadInput) as error:
            return _wrong(state, call, place, f"error: {error}")
        except Unreachable:
            raise  # the platform is away: the process ends, and its successor calls again
        except (AarlabError, OSError, UnicodeError) as error:
            return _result(state, call, place, f"error: {error}", error=True)
        except Exception as error:
            LOG.exception("tool %s", call.function)
            return _result(state, call, place, f"error: {type(error).__name__}", error=True)
        state = state.but(wrong_in_a_row=0)
        state = state if done.change is None else done.change(state)
        return _result(state, call, place, done.text)

    def _done(self, state: LoopState, call: ToolCall, index: int, place: Place) -> Result:
        if call.parse_error:
            raise WrongCall(f"the arguments could not be read: {call.parse_error}")
        tool, now = find_tool(self.tools, call.function), time.time()
        if tool.repeatable:
            return tool.call(self.kit, call.arguments, place)
        mark = Running(turn=state.turn, index=index, tool=tool.name, started_s=now, seen_s=now)
        self.kit.store.started(mark)
        self.kit.running = mark
        try:
            return tool.call(self.kit, call.arguments, place)
        finally:
            self.kit.running = None


def _wrong(state: LoopState, call: ToolCall, place: Place, text: str) -> LoopState:
    state = state.but(wrong_in_a_row=state.wrong_in_a_row + 1)
    state = _result(state, call, place, text, error=True)
    if state.wrong_in_a_row % ALERT_EVERY == 0:
        return state.said("error", f"alert: {state.wrong_in_a_row} wrong tool calls in a row")
    return state


def _result(
    state: LoopState, call: ToolCall, place: Place, text: str, error: bool = False
) -> LoopState:
    text = storable(text)  # a file's name may be no Unicode
    fault = ToolCallError("unknown", text[:200]) if error else None
    message = ChatMessageTool(
        content=text, tool_call_id=call.id, function=call.function, error=fault
    )
    more = {"tool": call.function, "call": place.key}
    return state.with_messages(message).said("tool_result", text, **more)


def _last_assistant(state: LoopState) -> ChatMessageAssistant:
    for message in reversed(state.messages):
        if isinstance(message, ChatMessageAssistant):
            return message
    raise AssertionError("phase `tools` without an assistant message")


# ---------------------------------------------------------------- background commands
def backgrounds_booked(kit: Kit, name: str, state: LoopState, every_s: float) -> LoopState:
    """Device seconds of background commands are recorded as they run; ends are told once."""
    for job in state.background:
        if job.told:
            continue
        ended, seconds = kit.backgrounds.ended(job.id), kit.backgrounds.seconds(job.id)
        if ended or seconds - job.booked_s >= every_s:
            state = state.with_background(_booked(kit, name, job, seconds))
        if ended:
            done = state.background_of(job.id) or job
            update = {"ended": ended, "told": True}
            state = state.with_background(done.model_copy(update=update))
            state = told(state, f"[From the platform] Background command {job.id}: {ended}.")
    return state


def _booked(kit: Kit, name: str, job: Background, seconds: float) -> Background:
    fresh = max(seconds - job.booked_s, 0.0)
    if fresh > 0:
        kit.book(fresh, f"{name}-{job.id}-{job.bookings}", job.command[:80])
    update = {"booked_s": job.booked_s + fresh, "bookings": job.bookings + 1}
    return job.model_copy(update=update)
