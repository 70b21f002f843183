"""Model calls and tool calls of a language-model AAR, each saved so that a killed AAR can resume.

One model call is paid once: reserve, ask, keep the answer on disk, record what it cost. If the AAR
is killed anywhere, the next process finds the answer on disk or makes the call again; only a call
that was in flight is made twice. The tool calls of a turn are answered one by one, each saved
before the next begins.

A model's answer is kept in a form that a file can hold: providers send JSON that files cannot.

Covered: lone surrogates, as ? ; arguments of a tool that are nested without end, cut off.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import partial
from typing import Any, TypeVar

from inspect_ai.model import ChatMessageAssistant, ChatMessageTool, ChatMessageUser, ModelOutput
from inspect_ai.tool import ToolCall, ToolCallError, ToolInfo
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from aarlab.agents.keeping import Keeper
from aarlab.agents.language import budget
from aarlab.agents.language.models import Asker, Choice
from aarlab.agents.language.prompts import filled, text_of
from aarlab.agents.language.state import Answer, Background, LoopState, Running, Store
from aarlab.agents.language.steering import Steering
from aarlab.agents.language.tools.kit import Kit, Place, Result, Tool, WrongCall, find_tool
from aarlab.agents.prices import Price
from aarlab.client.platform import PlatformClient
from aarlab.core import foreign
from aarlab.core.errors import AarlabError, BadInput, Superseded, TooManyRequests, Unreachable
from aarlab.core.foreign import storable as foreign_storable
from aarlab.core.foreign import storable as storable_text
from aarlab.core.wire_ledger import WaitKind
from aarlab.core.wire_service import ModelCall, NewReservation, NewWait

CUT = "(nested too deeply)"
Value = TypeVar("Value")


def storable(output: ModelOutput) -> ModelOutput:
    """Return the answer itself where it can be written, which is nearly always."""
    try:
        output.model_dump_json()
    except PydanticSerializationError:
        return _plain(output, 0)
    return output


def _plain(value: Value, depth: int) -> Value:
    made: Any = value
    if isinstance(value, str):
        made = foreign.storable(value)
    elif depth > foreign.MAX_DEPTH:
        made = CUT
    elif isinstance(value, BaseModel):
        names = type(value).model_fields
        made = value.model_copy(update={n: _plain(getattr(value, n), depth + 1) for n in names})
    elif is_dataclass(value) and not isinstance(value, type):
        inner = {f.name: _plain(getattr(value, f.name), depth + 1) for f in fields(value) if f.init}
        made = replace(value, **inner)
    elif isinstance(value, dict):
        made = {_plain(k, depth + 1): _plain(v, depth + 1) for k, v in value.items()}
    elif isinstance(value, list):
        made = [_plain(part, depth + 1) for part in value]
    return made  # type: ignore[no-any-return]


HELD_WAIT_S = 30.0


@dataclass
class PlatformWaits:
    """Reports to the platform when the AAR waits, so that the time does not count as research."""

    platform: PlatformClient
    kind: WaitKind | None = None

    def begin(self, kind: WaitKind, note: str, ago_s: float) -> None:
        self.kind = kind
        self.platform.wait(
            NewWait(kind=kind, note=storable_text(note)[:1000], ago_s=_capped(ago_s))
        )

    def end(self, ago_s: float = 0.0) -> None:
        self.kind = None
        self.platform.wait(NewWait(kind="research", ago_s=_capped(ago_s)))


def _capped(seconds: float) -> float:
    return min(max(seconds, 0.0), 86_400.0)


@dataclass
class Caller:
    """`save` makes a state last; `state` is the one saved last, with what was noted meanwhile."""

    name: str
    platform: PlatformClient
    store: Store
    asker: Asker
    price: Price
    tools: tuple[Tool, ...]
    steering: Steering
    save: Callable[[LoopState], LoopState]
    keeper: Keeper = field(default_factory=Keeper)
    state: LoopState = field(init=False)
    infos: list[ToolInfo] = field(init=False)
    waits: PlatformWaits = field(init=False)

    def __post_init__(self) -> None:
        self.waits = PlatformWaits(self.platform)
        self.infos = [tool.info() for tool in self.tools]

    def answer(self, state: LoopState, size: int) -> Answer:
        """Return the answer to the call that the state names. `size` is the conversation in tokens.

        Raises BudgetExhausted, Interrupted, ConversationRejected, ContextExceeded, SettingsRefused
        or ModelUnavailable.
        """
        assert state.call is not None
        self.state = state
        self.asker.on_failure, self.asker.waits = self._noted, self.waits
        self.asker.accepted = self.asker.accepted or bool(state.spend)
        answer = self.store.answer(state.call) or self._asked(state, state.call, size)
        self.platform.record_call(answer.record, key=f"{self.name}-{state.call}")
        return answer

    def released(self, call: str) -> None:
        """Free what was held for a call that will not be made."""
        self.keeper.touch()
        nothing = ModelCall(call=call, model=self.asker.spec.model)
        self.platform.record_call(nothing, key=f"{self.name}-{call}")

    def _asked(self, state: LoopState, call: str, size: int) -> Answer:
        spec = self.asker.spec
        worst = budget.reservation(call, self.price, size, spec)
        self.keeper.before_effect()
        self._reserved(worst)
        self.asker.again = partial(self._reserved, worst)  # the reservation may have expired
        choice: Choice = "none" if state.phase == "summing_up" else "auto"
        output = self.asker.ask(state.messages, self.infos, choice)
        record = budget.record(call, spec, self.price, output, size)
        answer = Answer(output=storable(output), record=record)
        self.store.keep_answer(call, answer)
        self.keeper.touch()
        return answer

    def _reserved(self, worst: NewReservation) -> None:
        """Reserve without a key that lasts: a new process reserves again what the old one held."""
        waiting = False
        try:
            while True:
                try:
                    self.platform.reserve(worst)
                    return
                except TooManyRequests as error:
                    self._noted(f"waits for the budget: {error}")
                    if self.waits.kind is None:
                        waiting = True
                        self.waits.begin("budget", str(error), 0.0)
                    self.steering.wait(HELD_WAIT_S)
        finally:
            if waiting:
                self.waits.end()

    def _noted(self, text: str) -> None:
        self.state = self.save(self.state.said("error", text))


def told(state: LoopState, text: str) -> LoopState:
    return state.with_messages(ChatMessageUser(content=text)).said("user", text)


def cost(record: ModelCall) -> dict[str, object]:
    """Return the cost fields of a transcript entry."""
    return {"tokens": budget.tokens_of(record), "dollars": record.dollars}


def turn_heard(state: LoopState, answer: Answer, max_output_tokens: int) -> LoopState:
    """Add the answer to the conversation; without a tool call it gets a short reply."""
    output = answer.output
    if not output.choices:
        state = state.said("error", "the model gave an empty answer", **cost(answer.record))
        state = state.but(phase="ready", empty_in_a_row=state.empty_in_a_row + 1)
        return told(state, text_of("continue").strip())
    message = output.message
    state = state.but(too_long=0, repaired=False)
    state = state.with_messages(message)
    state = state.said("assistant", assistant_text(message), **cost(answer.record))
    state = state.but(
        known_tokens=context_tokens(output),
        known_messages=len(state.messages) if output.usage else 0,
    )
    if message.tool_calls:
        return state.but(phase="tools", empty_in_a_row=0)
    state = state.but(phase="ready", empty_in_a_row=state.empty_in_a_row + 1)
    return _nudged(state, output, max_output_tokens)


def _nudged(state: LoopState, output: ModelOutput, max_output_tokens: int) -> LoopState:
    if _refused(output):
        return told(state.said("error", "the model refused"), text_of("refusal").strip())
    if output.stop_reason == "max_tokens":
        limit = {"max_output_tokens": str(max_output_tokens)}
        return told(state, filled(text_of("cut_off"), limit).strip())
    return told(state, text_of("continue").strip())


def _refused(output: ModelOutput) -> bool:
    """Return whether the model refused: by its stop reason, or a part marked so (Responses)."""
    content = output.message.content
    parts = [] if isinstance(content, str) else content
    marked = any(getattr(part, "refusal", None) for part in parts)
    return output.stop_reason == "content_filter" or marked


def context_tokens(output: ModelOutput) -> int:
    """Return the tokens of the request and its answer as the provider counts them.

    Returns 0 where the provider reports no usage.
    """
    usage = output.usage
    if usage is None:
        return 0
    cached = (usage.input_tokens_cache_read or 0) + (usage.input_tokens_cache_write or 0)
    return usage.input_tokens + cached + usage.output_tokens


def assistant_text(message: ChatMessageAssistant) -> str:
    if isinstance(message.content, str):
        return message.content
    parts = []
    for content in message.content:
        if content.type == "text":
            parts.append(content.text)
        elif content.type == "reasoning":
            parts.append(f"[reasoning] {content.reasoning or json.dumps(content.summary)}")
    return "\n".join(parts)


LOG = logging.getLogger("aarlab.agents")
INTERRUPTED = "interrupted by a restart; check before repeating"
ALERT_EVERY = 50


@dataclass
class Answerer:
    """A tool's error goes to the model, never further.

    Two end the process instead: the platform is away, or a newer process of the AAR has begun.
    """

    name: str
    kit: Kit
    tools: tuple[Tool, ...]

    def next(self, state: LoopState) -> LoopState | None:
        """Return the state with one more result, not yet saved; None when all calls have theirs."""
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
        """Return whether an earlier process died in this call, and book its device seconds."""
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
        except (Superseded, Unreachable):
            raise  # its successor, which may work already, calls again
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
    text = foreign_storable(text)  # a file's name may be no Unicode
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
    """Record device seconds of background commands as they run; report each end once."""
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
