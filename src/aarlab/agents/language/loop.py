"""The durable loop of a language-model AAR: a state machine whose every step can be killed.

    ready ──► asking ──► tools ──► ready        a turn
    ready ──► summing_up ──► ready              the conversation became too long

Covered: `kill -9` at any line. A model call has its id in the saved state before it is made; its
answer is on disk before anything is done with it, so that only a call in flight is ever repeated.
Tools run one by one, each result saved; one that was cut off is reported to the model, not run
again, unless running it again is harmless. Platform writes carry keys made of the AAR's name and
the place of the call.
Not covered: what a cut-off model call cost at its provider; device seconds of a background command
since they were last booked.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from inspect_ai.model import ChatMessageUser

from aarlab.agents.forum_files import sync_forum
from aarlab.agents.language import compaction, context
from aarlab.agents.language.answering import Answerer, backgrounds_booked
from aarlab.agents.language.budget import (
    budget_text,
    nearly_used_up,
    submissions_used_up,
    used_up,
)
from aarlab.agents.language.calling import Caller, cost, told, turn_heard
from aarlab.agents.language.inspect_logs import write_log
from aarlab.agents.language.models import ConversationRejected, Interrupted
from aarlab.agents.language.money import tokens_of
from aarlab.agents.language.prompts import filled, prompt_hash, text_of
from aarlab.agents.language.state import LoopState, Phase
from aarlab.agents.language.steering import STOPPED, Steering
from aarlab.agents.language.store import Answer, Store
from aarlab.agents.language.tools.kit import Kit
from aarlab.client.platform import PlatformClient
from aarlab.core.errors import AarlabError, BudgetExhausted, NotFound
from aarlab.core.wire import Me
from aarlab.sandbox.workspace import copy_out

LOG = logging.getLogger("aarlab.agents")
SYNC_EVERY_S = 30.0
LOG_EVERY_TURNS = 25
MAX_EMPTY = 20
MAX_NOTEBOOK = 400_000
BOOK_EVERY_S = 60.0
WRAP_UP_TURNS = 20
TOO_LONG_TO_SUM_UP = 1.5


@dataclass
class LanguageAar:
    """The parts of one AAR process. `system` is its system prompt."""

    name: str
    system: str
    kit: Kit
    caller: Caller
    answerer: Answerer
    steering: Steering
    forum: bool = True
    prompts: Callable[[], str] = prompt_hash
    _synced: float = field(default=-1e9, init=False)
    _tools_size: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._tools_size = context.estimate_tools(self.caller.infos)

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
            if self.store.closed():
                return self.store.save(state)
            state = state.but(finished=False, why="").said("note", "the budget was extended")
        self.platform.open_session()
        if state is None:
            return self._fresh(LoopState(prompt_hash=self.prompts()))
        if state.prompt_hash != self.prompts():
            state = state.but(prompt_hash=self.prompts())
            state = state.said("error", "alert: the prompts changed since this AAR began")
        return self.store.save(state.said("note", "process restarted"))

    def _step(self, state: LoopState) -> LoopState:
        if state.phase == "ready":
            return self._ready(state)
        return self._tool(state) if state.phase == "tools" else self._model_call(state)

    def _end(self, state: LoopState, why: str) -> LoopState:
        self.kit.backgrounds.kill_all()
        state = backgrounds_booked(self.kit, self.name, state, every_s=0.0)
        state = state.but(finished=True, why=why, phase="ready").said("note", f"finished: {why}")
        self._log(state)
        return self.store.save(state)

    # ------------------------------------------------------------ between turns
    def _ready(self, state: LoopState) -> LoopState:
        if state.wants_end is not None:
            return self._end(state, state.wants_end)
        state, me = self.steering.heed(state)
        if why := state.wants_end or used_up(me) or self._turns_used_up(state):
            return self._end(state, why)
        state = backgrounds_booked(self.kit, self.name, state, BOOK_EVERY_S)
        state = _warned(state, me)
        self._sync()
        return self._fresh(state, me) if state.wants_session else self._room_made(state, me)

    def _turns_used_up(self, state: LoopState) -> str | None:
        if state.turn >= self.kit.spec.max_turns:
            return f"all {self.kit.spec.max_turns} turns are used up"
        if state.empty_in_a_row >= MAX_EMPTY:
            return f"the model called no tool in {MAX_EMPTY} answers in a row"
        if state.ends_at is not None and state.turn >= state.ends_at:
            return "the budget is used up: no submissions of predictions left"
        return None

    def _room_made(self, state: LoopState, me: Me) -> LoopState:
        """Goes on to the model, or first makes the conversation shorter."""
        limit = self.kit.spec.context_tokens
        if self._tokens(state) > limit and state.calls_in_part > 0:
            self._log(state)
            state = compaction.shortened(state.but(part=state.part + 1))
            if self._tokens(state) > limit * TOO_LONG_TO_SUM_UP:
                note = "the conversation is too long for a summary: a fresh session begins"
                return self._fresh(state.said("note", note), me)
            if self._tokens(state) > limit * context.FULL_ENOUGH:
                ask = ChatMessageUser(content=text_of("summary"))
                return self._called(state.with_messages(ask), "summing_up")
        return self._called(state.but(turn=state.turn + 1), "asking")

    def _called(self, state: LoopState, phase: Phase) -> LoopState:
        number = state.calls + 1
        made = {"calls": number, "calls_in_part": state.calls_in_part + 1}
        return self.store.save(state.but(phase=phase, call=f"m{number:06d}", **made))

    def _fresh(self, state: LoopState, me: Me | None = None) -> LoopState:
        if state.messages:
            self._log(state)
        budget = budget_text(me or self.platform.me())
        fresh = compaction.fresh_session(state, self.system, self._notebook(), budget)
        return self.store.save(fresh)

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
        tools = self._tools_size if state.known_messages == 0 else 0
        fresh = context.estimate(state.messages[state.known_messages :])
        return state.known_tokens + fresh + tools

    def _sync(self) -> None:
        if self.forum and time.monotonic() - self._synced >= SYNC_EVERY_S:
            sync_forum(self.platform, self.kit.sandbox, self.kit.config.forum_cursor)
            self._synced = time.monotonic()

    # ------------------------------------------------------------ the model
    def _model_call(self, state: LoopState) -> LoopState:
        """Makes the call that the state names, or takes up its answer."""
        try:
            answer = self.caller.answer(state, self._tokens(state))
        except BudgetExhausted as error:
            return self._end(self.caller.state, f"the budget is used up: {error}")
        except Interrupted:
            self.caller.released(state.call or "")
            return self._end(self.caller.state, STOPPED)
        except ConversationRejected as error:
            return self._rejected(self.caller.state, error)
        spent = {"dollars": answer.record.dollars, **tokens_of(answer.record)}
        state = self.caller.state.spent(spent).but(call=None)
        if state.phase == "summing_up":
            state = self._summed_up(state, answer)
        else:
            state = turn_heard(state, answer, self.kit.spec.max_output_tokens)
        state = self.store.save(state)
        self.store.drop_answer(answer.record.call)
        return state

    def _rejected(self, state: LoopState, error: ConversationRejected) -> LoopState:
        """A conversation that the provider does not take is left; a fresh one that it does not
        take either is for the operator."""
        if state.calls_in_part <= 1 and len(state.messages) <= 2:
            raise error
        self.caller.released(state.call or "")
        note = f"the provider rejected the conversation, a fresh session begins: {error}"
        return self._fresh(state.but(call=None).said("error", note))

    def _summed_up(self, state: LoopState, answer: Answer) -> LoopState:
        """The summary takes the place of the conversation, or a fresh session does."""
        output, limit = answer.output, self.kit.spec.context_tokens
        text = output.completion.strip() if output.choices else ""
        state = state.said("assistant", text or "(no summary)", **cost(answer.record))
        state, budget = state.but(messages=state.messages[:-1]), budget_text(self.platform.me())
        if text and output.stop_reason not in ("content_filter", "model_length"):
            done = compaction.summarised(state, text, budget, limit)
            if self._tokens(done) <= limit * context.FULL_ENOUGH:
                return done
        state = state.said("note", "the summary does not help: a fresh session begins")
        return compaction.fresh_session(state, self.system, self._notebook(), budget)

    # ------------------------------------------------------------ tools
    def _tool(self, state: LoopState) -> LoopState:
        """Answers the first call that has no result, or ends the turn."""
        answered = self.answerer.next(state)
        if answered is not None:
            state = self.store.save(answered)
            self.store.ended()
            return state
        self.store.drop_requests()
        if state.turn % LOG_EVERY_TURNS == 0:
            self._log(state)
        return self.store.save(state.but(phase="ready"))

    def _log(self, state: LoopState) -> None:
        try:
            write_log(self.store.home, self.name, self.kit.spec.model, state)
        except (OSError, ValueError) as error:
            LOG.warning("the Inspect log was not written: %s", error)


def _warned(state: LoopState, me: Me) -> LoopState:
    """Told once each: that little is left, and that the last submission is made."""
    if not submissions_used_up(me):
        state = state.but(ends_at=None)  # also where the operator gave more
    elif state.ends_at is None:
        text = filled(text_of("wrap_up"), {"turns": str(WRAP_UP_TURNS)})
        state = told(state.but(ends_at=state.turn + WRAP_UP_TURNS), text.strip())
    little = nearly_used_up(me)
    if state.warned or little is None:
        return state
    text = f"[From the platform] Your budget is nearly used up: {little}."
    return told(state.but(warned=True), text)
