"""A model call of the operator on the platform's books: reserved before, booked after, each once.

A process that is killed leaves a call reserved. `settle` books it before the next is made: with
what its answer told, where that was kept, and else at its worst, since nobody knows what it cost.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from aarlab.agents.prices import Price
from aarlab.agents.proxy.asked import BYTES_A_TOKEN
from aarlab.core.wire_ledger import OperatorCall, OperatorReservation, Purpose

FREE: Mapping[str, int] = {}  # refused by the provider, or not reached: it costs nothing


class Platform(Protocol):
    """The part of the operator's client that is used here."""

    def reserve_call(self, new: OperatorReservation, key: str | None = None) -> OperatorCall: ...

    def book_call(self, call: OperatorCall, key: str | None = None) -> OperatorCall: ...

    def unbooked_calls(self, purpose: Purpose) -> list[OperatorCall]: ...


@dataclass(frozen=True, slots=True)
class Books:
    """Calls of one purpose to one model. All of them together stay below `cap_dollars`, and pass it
    by one call at most, where a model takes more than its worst case."""

    platform: Platform
    purpose: Purpose
    model: str
    price: Price
    cap_dollars: float | None = None

    def begin(self, about: str, prompt: str, output_tokens: int) -> OperatorCall:
        """Hold the most that a call can cost. Raises BudgetExhausted: then it must not be made."""
        input_tokens = len(prompt.encode()) // BYTES_A_TOKEN + 1
        worst = OperatorCall(
            purpose=self.purpose,
            call=f"{self.purpose}-{about[:12]}-{uuid.uuid4().hex[:16]}",
            model=self.model,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            dollars=self.price.worst(input_tokens, output_tokens),
            priced=self.price.dated,
        )
        new = OperatorReservation(**worst.model_dump(), cap_dollars=self.cap_dollars)
        return self.platform.reserve_call(new, key=f"{worst.call}-reserve")

    def end(
        self, held: OperatorCall, tokens: Mapping[str, int] | None, seconds: float = 0.0
    ) -> OperatorCall:
        """Book the tokens by kind that the answer told; without any word of it (None) the worst."""
        ended = held if tokens is None else self._cost(held, tokens)
        ended = ended.model_copy(update={"seconds": seconds})
        return self.platform.book_call(ended, key=f"{held.call}-book")

    def settle(self, known: Mapping[str, Mapping[str, int] | None]) -> None:
        """Book what processes before this one left open; `known` are tokens of calls whose answer
        was kept."""
        for held in self.platform.unbooked_calls(self.purpose):
            self.end(held, known.get(held.call))

    def _cost(self, held: OperatorCall, tokens: Mapping[str, int]) -> OperatorCall:
        nothing = OperatorCall(
            purpose=held.purpose, call=held.call, model=held.model, priced=held.priced
        )
        return nothing.model_copy(update={**tokens, "dollars": self.price.dollars(**tokens)})
