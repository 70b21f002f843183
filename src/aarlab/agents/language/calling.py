"""One model call, paid once: reserve, ask, keep the answer on disk, record what it cost.

Killed anywhere, the next process finds the answer on disk or makes the call again; only a call
that was in flight is made twice.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, ModelOutput
from inspect_ai.tool import ToolInfo

from aarlab.agents.language import money
from aarlab.agents.language.models import Asker, Choice
from aarlab.agents.language.prompts import filled, text_of
from aarlab.agents.language.state import LoopState
from aarlab.agents.language.steering import Steering
from aarlab.agents.language.storable import storable
from aarlab.agents.language.store import Answer, Store
from aarlab.agents.language.tools.tool import Tool
from aarlab.agents.prices import Price
from aarlab.client.platform import PlatformClient
from aarlab.core.errors import TooManyRequests
from aarlab.core.foreign import storable as storable_text
from aarlab.core.wire_ledger import WaitKind
from aarlab.core.wire_service import ModelCall, NewReservation, NewWait

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
        """The call will not be made: what was held for it is free again."""
        nothing = ModelCall(call=call, model=self.asker.spec.model)
        self.platform.record_call(nothing, key=f"{self.name}-{call}")

    def _asked(self, state: LoopState, call: str, size: int) -> Answer:
        spec = self.asker.spec
        worst = money.reservation(call, self.price, size, spec)
        self._reserved(worst)
        self.asker.again = partial(self._reserved, worst)  # the reservation may have expired
        choice: Choice = "none" if state.phase == "summing_up" else "auto"
        output = self.asker.ask(state.messages, self.infos, choice)
        record = money.record(call, spec, self.price, output, size)
        answer = Answer(output=storable(output), record=record)
        self.store.keep_answer(call, answer)
        return answer

    def _reserved(self, worst: NewReservation) -> None:
        """Without a key that lasts: a new process reserves anew what the old one held."""
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
    """Of a transcript entry."""
    return {"tokens": money.tokens_of(record), "dollars": record.dollars}


def turn_heard(state: LoopState, answer: Answer, max_output_tokens: int) -> LoopState:
    """The answer joins the conversation; without a tool call it gets a short reply."""
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
    """By its stop reason, or by a part that is marked so (OpenAI's Responses)."""
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
