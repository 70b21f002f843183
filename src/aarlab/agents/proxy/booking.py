"""A model call on the platform's books: reserved before it is sent, recorded after, once.

The journal makes it survive `kill -9`: a call that was begun and has no end is booked at what was
reserved for it, since nobody knows what the vendor charged.
"""

import json
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from aarlab.agents.prices import Price
from aarlab.agents.proxy.asked import Asked
from aarlab.core.errors import BudgetExhausted
from aarlab.core.wire import Me
from aarlab.core.wire_service import ModelCall, NewReservation


class Books(Protocol):
    """The part of the platform's client that is used here."""

    def reserve(self, new: NewReservation, key: str | None = None) -> Me: ...

    def record_call(self, call: ModelCall, key: str | None = None) -> Me: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Begun:
    """A call that is under way. `worst` is what it costs if its answer never tells."""

    id: str
    worst: ModelCall
    one_hour: bool = False
    since: float = field(default_factory=time.monotonic)


@dataclass
class Ledger:
    """`books` opens a client (one a thread), `price_of` knows the allowed models. `refused` says
    why the last call was refused that the budget has no room for."""

    journal: Path
    books: Callable[[], Books]
    price_of: Callable[[str], Price]
    refused: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, asked: Asked) -> Begun:
        """Raises BudgetExhausted when the call could pass a limit; nothing is sent then."""
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
        self._note({"begun": worst.model_dump()})
        return Begun(call, worst, asked.one_hour)

    def free(self, begun: Begun) -> None:
        """The vendor refused or was not reached: it costs nothing."""
        self._end(begun, ModelCall(call=begun.id, model=begun.worst.model))

    def finish(
        self,
        begun: Begun,
        tokens: dict[str, int] | None,
        one_hour: int | None = None,
        dearer: float = 1.0,
    ) -> ModelCall:
        """Book the usage that the answer reported, or the reserved maximum where it reported none.

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
        return self._end(begun, ended.model_copy(update={"seconds": seconds}))

    def settle(self) -> None:
        """After a crash: book what a process before this one left open."""
        found = _read(self.journal)
        for call, worst in found["begun"].items():
            if call not in found["booked"]:
                self._record(found["ended"].get(call, worst))
        self.journal.unlink(missing_ok=True)

    def _end(self, begun: Begun, ended: ModelCall) -> ModelCall:
        self._note({"ended": ended.model_dump()})
        self._record(ended)
        self._note({"booked": ended.model_dump()})
        return ended

    def _record(self, ended: ModelCall) -> None:
        books = self.books()
        try:
            books.record_call(ended, key=f"{ended.call}-record")
        finally:
            books.close()

    def _note(self, entry: dict[str, Any]) -> None:
        with self._lock, self.journal.open("a", encoding="utf-8") as out:
            out.write(json.dumps(entry) + "\n")


def _read(journal: Path) -> dict[str, dict[str, ModelCall]]:
    """Calls by what happened to them and by id; a last line cut by a crash is dropped."""
    found: dict[str, dict[str, ModelCall]] = {"begun": {}, "ended": {}, "booked": {}}
    lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    for line in lines:
        [(kind, raw)] = json.loads(line).items()
        call = ModelCall.model_validate(raw)
        found[kind][call.call] = call
    return found
