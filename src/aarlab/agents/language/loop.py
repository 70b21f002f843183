"""The durable loop of a language-model AAR: a state machine whose every step can be killed.

    ready ──► asking ──► tools ──► ready        a turn
    ready ──► summing_up ──► ready              the conversation became too long

Covered: `kill -9` at any line. A model call has its id in the saved state before it is made; its
answer is on disk before anything is done with it, so that only a call in flight is ever repeated.
Tools run one by one, each result saved; one that was cut off is reported to the model, not run
again, unless running it again is harmless. Platform writes carry keys made of the AAR's name and
the place of the call.
Not covered: what a cut-off model call cost at its provider.
"""

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageTool,
    ChatMessageUser,
    ModelOutput,
)
from inspect_ai.tool import ToolCall, ToolCallError

from aarlab.agents.forum_files import sync_forum
from aarlab.agents.language import compaction, context, money
from aarlab.agents.language.budget import budget_text, nearly_used_up, used_up
from aarlab.agents.language.inspect_logs import write_log
from aarlab.agents.language.models import Asker, Choice, ConversationRejected, Interrupted
from aarlab.agents.language.prompts import filled, prompt_hash, text_of
from aarlab.agents.language.state import Background, LoopState, Running
from aarlab.agents.language.steering import STOPPED, Steering
from aarlab.agents.language.store import Answer, Store
from aarlab.agents.language.tools.kit import Kit
from aarlab.agents.language.tools.tool import Place, Result, Tool, WrongCall, find_tool
from aarlab.agents.prices import Price
from aarlab.client.platform import PlatformClient
from aarlab.core.errors import AarlabError, BadInput, BudgetExhausted, NotFound, Unreachable
from aarlab.core.wire import Me
from aarlab.core.wire_service import ModelCall
from aarlab.sandbox.workspace import copy_out

LOG = logging.getLogger("aarlab.agents")
SYNC_EVERY_S = 30.0
LOG_EVERY_TURNS = 25
ALERT_EVERY = 50
MAX_EMPTY = 20
MAX_NOTEBOOK = 400_000
BOOK_EVERY_S = 60.0
INTERRUPTED = "interrupted by a restart; check before repeating"


@dataclass
class LanguageAar:
    """The parts of one AAR process. `system` is its system prompt."""

    name: str
    system: str
    asker: Asker
    price: Price
    kit: Kit
    tools: Sequence[Tool]
    steering: Steering
    forum: bool = True
    prompts: Callable[[], str] = prompt_hash
    _synced: float = field(default=-1e9, init=False)
    _state: LoopState = field(init=False)

    @property
    def platform(self) -> PlatformClient:
        return self.kit.platform

    @property
    def store(self) -> Store:
        return self.kit.store

    # ------------------------------------------------------------ life
    def run(self) -> LoopState:
        """From the start or from where a killed process was, to the end of the budget."""
        state = self._opened()
        try:
            while not state.finished:
                state = self._step(state)
        finally:
            self.kit.backgrounds.kill_all()
        return state

    def _opened(self) -> LoopState:
        state = self.store.load()
        if state is not None and state.finished:
            return self.save(state)
        self.platform.open_session()
        self.asker.on_failure = self._failure_noted
        if state is None:
            state = LoopState(prompt_hash=self.prompts())
            return self._fresh(state)
        if state.prompt_hash != self.prompts():
            state = state.but(prompt_hash=self.prompts())
            state = state.said("error", "alert: the prompts changed since this AAR began")
        return self.save(self._without_background(state.said("note", "process restarted")))

    def save(self, state: LoopState) -> LoopState:
        self._state = self.store.save(state)
        return self._state

    def _step(self, state: LoopState) -> LoopState:
        if state.phase == "ready":
            return self._ready(state)
        if state.phase == "tools":
            return self._next_tool(state)
        return self._model_call(state)

    def _end(self, state: LoopState, why: str) -> LoopState:
        self.kit.backgrounds.kill_all()
        state = self._booked(state, every_s=0.0)
        state = state.but(finished=True, why=why, phase="ready").said("note", f"finished: {why}")
        self._log(state)
        return self.save(state)

    # ------------------------------------------------------------ between turns
    def _ready(self, state: LoopState) -> LoopState:
        if state.wants_end is not None:
            return self._end(state, state.wants_end)
        state, me = self.steering.heed(state)
        why = state.wants_end or used_up(me)
        if why is None and state.turn >= self.kit.spec.max_turns:
            why = f"all {self.kit.spec.max_turns} turns are used up"
        if why is None and state.empty_in_a_row >= MAX_EMPTY:
            why = f"the model called no tool in {MAX_EMPTY} answers in a row"
        if why is not None:
            return self._end(state, why)
        state = self._warned(self._booked(state, BOOK_EVERY_S), me)
        self._sync()
        if state.wants_session:
            return self._fresh(state, me)
        return self._room_made(state, me)

    def _room_made(self, state: LoopState, me: Me) -> LoopState:
        """Goes on to the model, or first makes the conversation shorter."""
        limit = self.kit.spec.context_tokens
        if self._tokens(state) > limit and state.calls_in_part > 0:
            self._log(state)
            state = compaction.shortened(state.but(part=state.part + 1))
            if self._tokens(state) > limit * 1.5:
                note = "the conversation is too long for a summary: a fresh session begins"
                return self._fresh(state.said("note", note), me)
            if self._tokens(state) > limit * context.FULL_ENOUGH:
                ask = ChatMessageUser(content=text_of("summary"))
                return self._called(state.with_messages(ask), "summing_up")
        return self._called(state.but(turn=state.turn + 1), "asking")

    def _called(self, state: LoopState, phase: str) -> LoopState:
        number = state.calls + 1
        made = {"calls": number, "calls_in_part": state.calls_in_part + 1}
        return self.save(state.but(phase=phase, call=f"m{number:06d}", **made))

    def _fresh(self, state: LoopState, me: Me | None = None) -> LoopState:
        if state.messages:
            self._log(state)
        budget = budget_text(me or self.platform.me())
        return self.save(compaction.fresh_session(state, self.system, self._notebook(), budget))

    def _notebook(self) -> str:
        try:
            raw = copy_out(self.kit.sandbox, compaction.NOTEBOOK, MAX_NOTEBOOK)
        except NotFound:
            return ""
        except AarlabError as error:
            return f"(it cannot be read: {error})"
        chars = int(self.kit.spec.context_tokens * context.CHARS_PER_TOKEN / 4)
        return context.cut(raw.decode(errors="replace"), chars // 2, chars // 2)

    def _tokens(self, state: LoopState) -> int:
        """Of the conversation, tools included."""
        fresh = context.estimate(state.messages[state.known_messages :])
        if state.known_messages == 0:
            fresh += context.estimate_tools([tool.info() for tool in self.tools])
        return state.known_tokens + fresh

    def _warned(self, state: LoopState, me: Me) -> LoopState:
        text = nearly_used_up(me)
        if state.warned or text is None:
            return state
        text = f"[From the platform] Your budget is nearly used up: {text}."
        return _told(state.but(warned=True), text)

    def _sync(self) -> None:
        if self.forum and time.monotonic() - self._synced >= SYNC_EVERY_S:
            sync_forum(self.platform, self.kit.sandbox, self.kit.config.forum_cursor)
            self._synced = time.monotonic()

    # ------------------------------------------------------------ the model
    def _model_call(self, state: LoopState) -> LoopState:
        """Makes the call that the state names, or takes up its answer."""
        assert state.call is not None
        answer = self.store.answer(state.call)
        if answer is None:
            try:
                answer = self._asked(state, state.call)
            except BudgetExhausted as error:
                return self._end(self._state, f"the budget is used up: {error}")
            except Interrupted:
                self._released(state.call)
                return self._end(self._state, STOPPED)
            except ConversationRejected as error:
                return self._rejected(self._state, error)
        self.platform.record_call(answer.record, key=f"{self.name}-{state.call}")
        state = self.save(self._heard(self._state, answer))
        self.store.drop_answer(answer.record.call)
        return state

    def _asked(self, state: LoopState, call: str) -> Answer:
        spec, size = self.kit.spec, self._tokens(state)
        worst = money.reservation(call, self.price, size, spec.max_output_tokens)
        self.platform.reserve(worst, key=f"{self.name}-{call}-reserve")
        infos = [tool.info() for tool in self.tools]
        choice: Choice = "none" if state.phase == "summing_up" else "auto"
        output = self.asker.ask(state.messages, infos, choice)
        answer = Answer(
            output=output, record=money.record(call, spec.model, self.price, output, size)
        )
        self.store.keep_answer(call, answer)
        return answer

    def _released(self, call: str) -> None:
        nothing = ModelCall(call=call, model=self.kit.spec.model)
        self.platform.record_call(nothing, key=f"{self.name}-{call}")

    def _rejected(self, state: LoopState, error: ConversationRejected) -> LoopState:
        """A conversation that the provider does not take is left; a fresh one that it does not
        take either is for the operator."""
        assert state.call is not None
        if state.calls_in_part <= 1 and len(state.messages) <= 2:
            raise error
        self._released(state.call)
        note = f"the provider rejected the conversation, a fresh session begins: {error}"
        return self._fresh(state.said("error", note))

    def _failure_noted(self, text: str) -> None:
        self.save(self._state.said("error", text))

    def _heard(self, state: LoopState, answer: Answer) -> LoopState:
        cost = {"dollars": answer.record.dollars, **money.tokens_of(answer.record)}
        state = state.spent(cost).but(call=None)
        if state.phase == "summing_up":
            return self._summed_up(state, answer)
        return self._turn_heard(state, answer)

    def _summed_up(self, state: LoopState, answer: Answer) -> LoopState:
        text = answer.output.completion.strip() if answer.output.choices else ""
        state = state.said("assistant", text or "(no summary)", **_cost(answer.record))
        state, me = state.but(messages=state.messages[:-1]), self.platform.me()
        limit = self.kit.spec.context_tokens
        if text and answer.output.stop_reason in ("stop", "max_tokens", "unknown"):
            done = compaction.summarised(state, text, budget_text(me), limit)
            if self._tokens(done) <= limit * context.FULL_ENOUGH:
                return done
        note = state.said("note", "the summary does not help: a fresh session begins")
        return compaction.fresh_session(note, self.system, self._notebook(), budget_text(me))

    def _turn_heard(self, state: LoopState, answer: Answer) -> LoopState:
        output = answer.output
        if output.stop_reason == "model_length" or not output.choices:
            return _too_long(state, answer)
        message = output.message
        said = _assistant_text(message)
        state = state.with_messages(message).said("assistant", said, **_cost(answer.record))
        state = state.but(
            known_tokens=_context_tokens(output),
            known_messages=len(state.messages) if output.usage else 0,
        )
        if message.tool_calls:
            return state.but(phase="tools", empty_in_a_row=0)
        return self._nudged(state.but(empty_in_a_row=state.empty_in_a_row + 1), output)

    def _nudged(self, state: LoopState, output: ModelOutput) -> LoopState:
        """An answer without a tool call gets a short reply, by what was wrong with it."""
        state = state.but(phase="ready")
        if output.stop_reason == "content_filter":
            return _told(state.said("error", "the model refused"), text_of("refusal").strip())
        if output.stop_reason == "max_tokens":
            limit = {"max_output_tokens": str(self.kit.spec.max_output_tokens)}
            return _told(state, filled(text_of("cut_off"), limit).strip())
        return _told(state, text_of("continue").strip())

    # ------------------------------------------------------------ tools
    def _next_tool(self, state: LoopState) -> LoopState:
        """Runs the first call that has no result, or ends the turn."""
        message = _last_assistant(state)
        calls, index = message.tool_calls or [], state.answered
        if index >= len(calls):
            self.store.drop_requests()
            state = state.but(phase="ready")
            if state.turn % LOG_EVERY_TURNS == 0:
                self._log(state)
            return self.save(state)
        state = self.save(self._answered(state, calls[index], index))
        self.store.ended()
        return state

    def _answered(self, state: LoopState, call: ToolCall, index: int) -> LoopState:
        place = Place(f"{self.name}-t{state.turn:06d}-{index:02d}", state)
        state = state.said("tool_call", _call_text(call), tool=call.function, call=place.key)
        cut_off = self.store.running()
        if cut_off is not None and (cut_off.turn, cut_off.index) == (state.turn, index):
            self.kit.book(cut_off.seen_s - cut_off.started_s, place.key, "interrupted")
            return _result(state, call, place, INTERRUPTED, error=True)
        try:
            return self._done(state, call, index, place)
        except (WrongCall, BadInput) as error:
            return self._wrong(state, call, place, str(error))
        except Unreachable:
            raise  # the platform is away: the process ends, and this call is made again
        except (AarlabError, OSError, UnicodeError) as error:
            return _result(state, call, place, f"error: {error}", error=True)
        except Exception as error:
            LOG.exception("tool %s", call.function)
            return _result(state, call, place, f"error: {type(error).__name__}", error=True)

    def _done(self, state: LoopState, call: ToolCall, index: int, place: Place) -> LoopState:
        if call.parse_error:
            raise WrongCall(f"the arguments could not be read: {call.parse_error}")
        tool = find_tool(self.tools, call.function)
        now = time.time()
        mark = Running(turn=state.turn, index=index, tool=tool.name, started_s=now, seen_s=now)
        self.kit.running = None if tool.repeatable else mark
        if not tool.repeatable:
            self.store.started(mark)
        try:
            done: Result = tool.call(self.kit, call.arguments, place)
        finally:
            self.kit.running = None
        state = state.but(wrong_in_a_row=0)
        state = state if done.change is None else done.change(state)
        return _result(state, call, place, done.text)

    def _wrong(self, state: LoopState, call: ToolCall, place: Place, why: str) -> LoopState:
        state = state.but(wrong_in_a_row=state.wrong_in_a_row + 1)
        state = _result(state, call, place, f"error: {why}", error=True)
        if state.wrong_in_a_row % ALERT_EVERY == 0:
            text = f"alert: {state.wrong_in_a_row} wrong tool calls in a row"
            return state.said("error", text)
        return state

    # ------------------------------------------------------------ background commands
    def _booked(self, state: LoopState, every_s: float) -> LoopState:
        """Device seconds of background commands are recorded as they run; ends are told."""
        for job in state.background:
            if job.told:
                continue
            ended = self.kit.backgrounds.ended(job.id)
            seconds = self.kit.backgrounds.seconds(job.id)
            if ended or seconds - job.booked_s >= every_s:
                state = state.with_background(self._job_booked(job, seconds, ended))
            if ended:
                text = f"[From the platform] Background command {job.id}: {ended}."
                state = _told(state, text)
        return state

    def _job_booked(self, job: Background, seconds: float, ended: str) -> Background:
        fresh = max(seconds - job.booked_s, 0.0)
        if fresh > 0:
            key = f"{self.name}-{job.id}-{job.bookings}"
            self.kit.book(fresh, key, job.command[:80])
        return job.model_copy(
            update={
                "booked_s": job.booked_s + fresh,
                "bookings": job.bookings + 1,
                "ended": ended,
                "told": bool(ended),
            }
        )

    def _without_background(self, state: LoopState) -> LoopState:
        """After a restart: what ran in the background ended with the process before."""
        for job in state.background:
            if not job.told and not job.ended:
                ended = self.kit.backgrounds.ended(job.id)
                state = state.with_background(job.model_copy(update={"ended": ended}))
        return state

    def _log(self, state: LoopState) -> None:
        try:
            write_log(self.store.home, self.name, self.kit.spec.model, state)
        except (OSError, ValueError) as error:
            LOG.warning("the Inspect log was not written: %s", error)


# ---------------------------------------------------------------- pure parts
def _told(state: LoopState, text: str) -> LoopState:
    return state.with_messages(ChatMessageUser(content=text)).said("user", text)


def _too_long(state: LoopState, answer: Answer) -> LoopState:
    text = f"the conversation is too long for the model: {answer.output.completion[:500]}"
    state = state.said("error", text, **_cost(answer.record))
    return state.but(phase="ready", wants_session=True)


def _result(
    state: LoopState, call: ToolCall, place: Place, text: str, error: bool = False
) -> LoopState:
    fault = ToolCallError("unknown", text[:200]) if error else None
    message = ChatMessageTool(
        content=text, tool_call_id=call.id, function=call.function, error=fault
    )
    return state.with_messages(message).said(
        "tool_result", text, tool=call.function, call=place.key
    )


def _cost(record: ModelCall) -> dict[str, object]:
    return {"tokens": money.tokens_of(record), "dollars": record.dollars}


def _context_tokens(output: ModelOutput) -> int:
    usage = output.usage
    if usage is None:
        return 0
    cached = (usage.input_tokens_cache_read or 0) + (usage.input_tokens_cache_write or 0)
    return usage.input_tokens + cached + usage.output_tokens


def _assistant_text(message: ChatMessageAssistant) -> str:
    if isinstance(message.content, str):
        return message.content
    parts = []
    for content in message.content:
        if content.type == "text":
            parts.append(content.text)
        elif content.type == "reasoning":
            parts.append(f"[reasoning] {content.reasoning}")
    return "\n".join(parts)


def _call_text(call: ToolCall) -> str:
    return json.dumps(call.arguments, ensure_ascii=False)


def _last_assistant(state: LoopState) -> ChatMessageAssistant:
    for message in reversed(state.messages):
        if isinstance(message, ChatMessageAssistant):
            return message
    raise AssertionError("phase `tools` without an assistant message")
