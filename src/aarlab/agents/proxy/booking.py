"""Bookings of model calls in the platform's ledger: reserved before, recorded after, each once.

Calls of an AAR: the journal makes a booking survive `kill -9`. A call that was begun and has no end
is booked at what was reserved for it, since what the vendor charged is not known.

Calls of the operator: a process that is killed leaves a call reserved. `settle` books it before the
next is made, with the tokens that its answer gave if that was kept. Otherwise it is booked at its
worst, since its cost is not known.
"""

import json
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from aarlab.agents.prices import Price
from aarlab.agents.proxy.calls import BYTES_A_TOKEN, Asked
from aarlab.core.errors import AarlabError, BudgetExhausted
from aarlab.core.wire import Me
from aarlab.core.wire_ledger import OperatorCall, OperatorReservation, Purpose
from aarlab.core.wire_service import ModelCall, NewReservation


class Books(Protocol):
    """The part of the platform's client that is used here."""

    def reserve(self, new: NewReservation, key: str | None = None) -> Me: ...

    def record_call(self, call: ModelCall, key: str | None = None) -> Me: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Begun:
    """A call that is under way. `worst` is its cost if the answer gives no usage."""

    id: str
    worst: ModelCall
    one_hour: bool = False
    since: float = field(default_factory=time.monotonic)


@dataclass
class Ledger:
    """Bookings of an AAR's calls.

    `books` opens a client (one per thread), `price_of` knows the allowed models. `refused` says why
    the last call was refused that the budget has no room for. `keep` is called when the journal has
    a new line and what depends on it is to come: the call itself, and its booking.
    """

    journal: Path
    books: Callable[[], Books]
    price_of: Callable[[str], Price]
    keep: Callable[[], None] = lambda: None
    refused: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _open: set[str] = field(default_factory=set)

    def begin(self, asked: Asked) -> Begun:
        """Reserve a call. Raises BudgetExhausted if it could pass a limit; nothing is sent then."""
        price, call = self.price_of(asked.name), f"proxy-{uuid.uuid4().hex}"
        prompt, output = asked.prompt_tokens, asked.output_tokens
        dollars = price.worst(prompt, output, asked.one_hour) * asked.dearer
        worst = ModelCall(
            call=call,
            model=asked.name,
            input_tokens=prompt,
            output_tokens=output,
            dollars=dollars,
        )
        tokens = prompt + output
        new = NewReservation(call=call, dollars=dollars, tokens=tokens, beside=True)
        books = self.books()
        try:
            books.reserve(new, key=f"{call}-reserve")
        except BudgetExhausted as error:
            self.refused = str(error)
            raise
        finally:
            books.close()
        self._note("begun", worst)
        begun = Begun(call, worst, asked.one_hour)
        try:
            self.keep()
        except AarlabError:
            self.free(begun)
            raise
        return begun

    def free(self, begun: Begun) -> None:
        """Free a call that costs nothing: the vendor refused it or was not reached."""
        self._end(ModelCall(call=begun.id, model=begun.worst.model))

    def finish(
        self,
        begun: Begun,
        tokens: dict[str, int] | None,
        one_hour: int | None = None,
        dearer: float = 1.0,
        heard: Callable[[ModelCall], None] = lambda call: None,
    ) -> ModelCall:
        """Book the usage that the answer reported, or the reserved maximum where it reported none.

        `heard` is called before it is booked, with what will be.

        `one_hour` is the number of cache-write tokens kept for an hour. Where the answer does not
        say, all of them count as the request asked. `dearer` is the tier's multiple of the listed
        price.
        """
        if tokens is None:
            ended = begun.worst
        else:
            if one_hour is None:
                one_hour = tokens["cache_write_tokens"] if begun.one_hour else 0
            price = self.price_of(begun.worst.model)
            dollars = price.dollars(**tokens, one_hour_tokens=one_hour) * dearer
            ended = ModelCall(call=begun.id, model=begun.worst.model, dollars=dollars, **tokens)
        seconds = time.monotonic() - begun.since
        ended = ended.model_copy(update={"seconds": seconds})

        def kept() -> None:
            heard(ended)
            self.keep()

        return self._end(ended, kept)

    def settle(self) -> None:
        """Book what a process before this one left open after a crash."""
        found = _read(self.journal)
        for call, worst in found["begun"].items():
            if call not in found["booked"]:
                self._record(found["ended"].get(call, worst))
        self.journal.unlink(missing_ok=True)

    def _end(self, ended: ModelCall, kept: Callable[[], None] = lambda: None) -> ModelCall:
        self._note("ended", ended)
        kept()
        self._record(ended)
        self._note("booked", ended)
        return ended

    def _record(self, ended: ModelCall) -> None:
        books = self.books()
        try:
            books.record_call(ended, key=f"{ended.call}-record")
        finally:
            books.close()

    def _note(self, what: Literal["begun", "ended", "booked"], call: ModelCall) -> None:
        """Add a line to the journal, which begins anew when no call is open."""
        with self._lock:
            (self._open.discard if what == "booked" else self._open.add)(call.call)
            with self.journal.open("a" if self._open else "w", encoding="utf-8") as out:
                if self._open:
                    out.write(json.dumps({what: call.model_dump()}) + "\n")


def _read(journal: Path) -> dict[str, dict[str, ModelCall]]:
    """Return calls by what happened to them and by id; a last line cut by a crash is dropped."""
    found: dict[str, dict[str, ModelCall]] = {"begun": {}, "ended": {}, "booked": {}}
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    for line in lines:
        [(kind, raw)] = json.loads(line).items()
        call = ModelCall.model_validate(raw)
        found[kind][call.call] = call
    return found


FREE: Mapping[str, int] = {}  # refused by the provider, or not reached: it costs nothing


class Platform(Protocol):
    """The part of the operator's client that is used here."""

    def reserve_call(self, new: OperatorReservation, key: str | None = None) -> OperatorCall: ...

    def book_call(self, call: OperatorCall, key: str | None = None) -> OperatorCall: ...

    def unbooked_calls(self, purpose: Purpose) -> list[OperatorCall]: ...


@dataclass(frozen=True, slots=True)
class OperatorBooks:
    """Calls of one purpose to one model.

    All of them together stay below `cap_dollars`. They pass it by one call at most, where a model
    takes more than its worst case.
    """

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
        """Book the tokens by kind that the answer gave, the worst case without any (None)."""
        ended = held if tokens is None else self._cost(held, tokens)
        ended = ended.model_copy(update={"seconds": seconds})
        return self.platform.book_call(ended, key=f"{held.call}-book")

    def settle(self, known: Mapping[str, Mapping[str, int] | None]) -> None:
        """Book what processes before this one left open.

        `known` are tokens of calls whose answer was kept.
        """
        for held in self.platform.unbooked_calls(self.purpose):
            self.end(held, known.get(held.call))

    def _cost(self, held: OperatorCall, tokens: Mapping[str, int]) -> OperatorCall:
        nothing = OperatorCall(
            purpose=held.purpose, call=held.call, model=held.model, priced=held.priced
        )
        return nothing.model_copy(update={**tokens, "dollars": self.price.dollars(**tokens)})
