"""A proxy in front of a fake endpoint, with books kept in memory."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from fake_models import FakeModels

from aarlab.agents.prices import Price
from aarlab.agents.proxy.booking import Ledger
from aarlab.agents.proxy.proxy import SOCKET, Proxy, listening, vendors_client
from aarlab.agents.proxy.settings import ProxySettings
from aarlab.core.errors import BudgetExhausted
from aarlab.core.wire import Limits, Me
from aarlab.core.wire_service import ModelCall, NewReservation

TOKEN = "aar_token_of_this_one"
MODELS = ["anthropic/claude-x", "openai/gpt-x"]


# Dollars a token are binary fractions, so that sums are exact.
PRICE = Price(
    model="any",
    dated="never",
    input=10 / 1024 * 1e6,
    output=50 / 1024 * 1e6,
    cache_read=1 / 1024 * 1e6,
    cache_write=12 / 1024 * 1e6,
    cache_write_1h=20 / 1024 * 1e6,
)


@dataclass
class MemoryBooks:
    """What the platform does: a cap on spent and reserved together; one record a call."""

    cap: float = float("inf")
    reserved: dict[str, float] = field(default_factory=dict)
    calls: dict[str, ModelCall] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def spent(self) -> float:
        return sum(call.dollars for call in self.calls.values())

    def tokens(self) -> dict[str, int]:
        kinds = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
        return {k: sum(getattr(call, k) for call in self.calls.values()) for k in kinds}

    def reserve(self, new: NewReservation, key: str | None = None) -> Me:
        with self._lock:
            if self.spent + sum(self.reserved.values()) + new.dollars > self.cap:
                raise BudgetExhausted(f"{self.spent} of {self.cap} dollars are spent")
            self.reserved[new.call] = new.dollars
            return self._me()

    def record_call(self, new: ModelCall, key: str | None = None) -> Me:
        with self._lock:
            assert self.calls.get(new.call, new) == new, "one call, two accounts"
            self.calls[new.call] = new
            self.reserved.pop(new.call, None)
            return self._me()

    def close(self) -> None:
        pass

    def _me(self) -> Me:
        return Me(
            name="a",
            direction="",
            limits=Limits(),
            submissions_made=0,
            submissions_left=None,
            research_s=0,
            spend={},
        )


@dataclass
class Opened:
    """`url` is the TCP door."""

    proxy: Proxy
    books: MemoryBooks
    folder: Path
    url: str
    seen: list[ModelCall]

    def client(self) -> httpx.Client:
        """Over the unix socket, without any key."""
        transport = httpx.HTTPTransport(uds=str(self.folder / SOCKET), verify=False)
        return httpx.Client(transport=transport, base_url="http://models", timeout=30)


def settings_of(fake: FakeModels) -> ProxySettings:
    return ProxySettings(
        anthropic_api_key=fake.key,
        openai_api_key=fake.key,
        anthropic_base_url=fake.anthropic_url,
        openai_base_url=fake.openai_url,
    )


@contextlib.contextmanager
def opened(
    fake: FakeModels, home: Path, books: MemoryBooks | None = None, uid: int | None = None
) -> Iterator[Opened]:
    books, seen = books or MemoryBooks(), []
    settings = settings_of(fake)
    ledger = Ledger(home / "calls.jsonl", lambda: books, lambda model: PRICE)
    with vendors_client(settings) as vendors:
        proxy = Proxy(
            settings, ledger, MODELS, TOKEN, vendors, lambda asked, raw, call: seen.append(call)
        )
        with listening(proxy, home / "models", uid, port=0) as port:
            yield Opened(proxy, books, home / "models", f"http://127.0.0.1:{port}", seen)
