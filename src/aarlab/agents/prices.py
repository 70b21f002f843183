"""What a model call costs: the table of genai-prices (offline, as installed) and own overrides.

Prices are frozen into a campaign when it is made, so that a newer table cannot change its ledger.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, FiniteFloat

from aarlab.core.clock import now_iso, parse_iso
from aarlab.core.errors import NotFound
from aarlab.core.wire_base import Strict

if TYPE_CHECKING:
    from genai_prices import types

PER = 1_000_000
HOUR_WRITE = 2.0  # times the input
# Run on own hardware or scripted: device seconds are what they cost.
FREE = frozenset(
    ("scripted", "mockllm", "hf", "none", "ollama", "vllm", "sglang", "llama-cpp-python")
)
# Names of Inspect's providers where genai-prices has another one.
PROVIDERS = {"grok": "x-ai", "bedrock": "aws", "azureai": "azure", "moonshot": "moonshotai"}
LEAST = 1e-9


def _a_price(dollars: float) -> float:
    """Return `dollars`, or raise ValueError for a price too small for any vendor to ask.

    Ratios of such prices overflow, and the resulting cost would not be a number.
    """
    if 0 < dollars < LEAST:
        raise ValueError(f"a price is 0, or at least ${LEAST:g} per million tokens")
    return dollars


@cache
def _snapshot() -> Any:
    """Return genai-prices' table, or None without the extra `agents`: then there are overrides."""
    try:
        from genai_prices import data_snapshot  # slow to load, and most processes ask no price
    except ModuleNotFoundError as missing:
        if missing.name is None or not missing.name.startswith("genai_prices"):
            raise
        return None
    return data_snapshot.get_snapshot()


Dollars = Annotated[FiniteFloat, Field(ge=0), AfterValidator(_a_price)]


def _input(given: dict[str, Any]) -> float:
    """Return the price of a kind that has none of its own; absent where `input` was refused."""
    return float(given.get("input", 0.0))


def _hour(given: dict[str, Any]) -> float:
    """Return the rate of one-hour cache writes that have no price of their own.

    At Anthropic, the only vendor that has such a price, it is double the input rate, but
    never below the rate of other cache writes. At other vendors it is that rate.
    """
    written = float(given.get("cache_write", 0.0))
    anthropics = "claude" in given.get("model", "") or "anthropic" in given.get("model", "")
    return max(written, HOUR_WRITE * _input(given)) if anthropics else written


class Tier(Strict):
    """Prices of the whole call once its input tokens of all kinds are above `above`."""

    above: Annotated[int, Field(gt=0)]
    input: Dollars
    output: Dollars
    cache_read: Dollars
    cache_write: Dollars
    cache_write_1h: Dollars | None = None  # None: dearer than cache_write as in the price itself


class Price(Strict):
    """Dollars per million tokens; the four kinds do not overlap. `dated` says as of when.

    `cache_write_1h` is the rate of cache writes that are kept for an hour.
    """

    model: str
    dated: Annotated[str, Field(min_length=1, max_length=200)]
    input: Dollars
    output: Dollars
    cache_read: Dollars = Field(default_factory=_input)
    cache_write: Dollars = Field(default_factory=_input)
    cache_write_1h: Dollars = Field(default_factory=_hour)
    tiers: tuple[Tier, ...] = ()

    def dollars(
        self,
        input_tokens: int = 0,
        output_tokens: int = 0,
        cache_read_tokens: int = 0,
        cache_write_tokens: int = 0,
        one_hour_tokens: int = 0,
    ) -> float:
        """Return the cost of one call in dollars.

        `one_hour_tokens` of the `cache_write_tokens` are kept for an hour.
        """
        total_in = input_tokens + cache_read_tokens + cache_write_tokens
        reached = [tier for tier in self.tiers if total_in > tier.above]
        rate: Price | Tier = max(reached, key=lambda tier: tier.above) if reached else self
        return (
            input_tokens * rate.input
            + output_tokens * rate.output
            + cache_read_tokens * rate.cache_read
            + (cache_write_tokens - one_hour_tokens) * rate.cache_write
            + one_hour_tokens * self._hourly(rate)
        ) / PER

    def _hourly(self, rate: "Price | Tier") -> float:
        if rate.cache_write_1h is not None:
            return rate.cache_write_1h
        dearer = self.cache_write_1h / self.cache_write if self.cache_write else 1.0
        return max(rate.cache_write * dearer, rate.cache_write)

    def worst(self, input_tokens: int, output_tokens: int, one_hour: bool = True) -> float:
        """Return the most that a call of up to this size can cost, whether or not it is cached.

        `one_hour` is False only where the request cannot have a cache entry kept for an hour.
        """
        sizes = {min(tier.above, input_tokens) for tier in self.tiers} | {input_tokens}
        kinds = ("input_tokens", "cache_read_tokens", "cache_write_tokens")
        costs = [
            self.dollars(**{kind: size}, output_tokens=output_tokens)
            for size in sizes
            for kind in kinds
        ]
        if one_hour:
            costs += [
                self.dollars(
                    cache_write_tokens=size, one_hour_tokens=size, output_tokens=output_tokens
                )
                for size in sizes
            ]
        return max(costs)


def price_of(
    model: str, overrides: Mapping[str, Price] | None = None, at: str | None = None
) -> Price:
    """Return the price of an Inspect model name (`provider/name`) at an ISO time, by default now.

    Own overrides come first. Models that run here cost no money. Raises NotFound, saying what to
    add, where no price is known: an unknown price is never taken for 0.
    """
    if overrides and model in overrides:
        return overrides[model]
    provider, _, name = model.partition("/")
    if provider in FREE:
        return Price(model=model, dated="runs here: no price", input=0.0, output=0.0)
    when = at or now_iso()
    found = None if _snapshot() is None else _listed(provider, name, parse_iso(when))
    if found is None:
        raise NotFound(_unknown(model))
    return _price(model, f"{when[:10]}, {table_version()}", found)


def has_table() -> bool:
    """Return whether a price table (genai-prices) is installed here."""
    return _snapshot() is not None


def table_version() -> str:
    return "no price table" if _snapshot() is None else f"genai-prices {version('genai-prices')}"


def _unknown(model: str) -> str:
    have = (
        "genai-prices is not installed (pip install 'aarlab[agents]')"
        if _snapshot() is None
        else f"{table_version()} does not list it"
    )
    return (
        f"no price of model {model!r}: {have}. Add to the campaign's spec: prices: "
        f"{{{model}: {{dated: 2026-01-31, input: 3.0, output: 15.0}}}} (dollars per million "
        "tokens; cache_read and cache_write default to input)"
    )


def _listed(provider: str, name: str, at: datetime) -> "types.ModelPrice | None":
    """Return the entry of genai-prices; a model behind a gateway is looked up by its own name."""
    table, inner = _snapshot(), name.rpartition("/")[2]
    asked = [(name, PROVIDERS.get(provider, provider)), (name, None), (inner, None)]
    for reference, known_as in asked if name else [(provider, None)]:
        try:
            _, found = table.find_provider_model(reference, None, known_as, None)
        except LookupError:
            continue
        price: types.ModelPrice = found.get_prices(at)
        if _numbers(price, "output_mtok") and _numbers(price, "input_mtok"):
            return price
    return None


def _numbers(price: "types.ModelPrice", key: str) -> Callable[[int], float] | None:
    """Return dollars of one kind of token by the call's input size; None where it has no price."""
    listed = getattr(price, key, None)
    if listed is None:
        return None
    from genai_prices import types  # with a price at hand, it is installed

    if not isinstance(listed, types.TieredPrices):
        return lambda _size: float(listed)

    def at(size: int) -> float:
        reached = [tier.price for tier in listed.tiers if size > tier.start]
        return float(reached[-1] if reached else listed.base)

    return at


def _price(model: str, dated: str, listed: "types.ModelPrice") -> Price:
    from genai_prices import types

    def rates(size: int) -> dict[str, Any]:
        plain = _numbers(listed, "input_mtok")
        kinds = {"input": plain, "output": _numbers(listed, "output_mtok")}
        for kind in ("cache_read", "cache_write"):
            kinds[kind] = _numbers(listed, f"{kind}_mtok") or plain
        if hourly := _numbers(listed, "cache_write_1h_mtok"):
            kinds["cache_write_1h"] = hourly
        return {kind: of(size) for kind, of in kinds.items() if of is not None}

    tiered = [value for value in vars(listed).values() if isinstance(value, types.TieredPrices)]
    starts = sorted({tier.start for value in tiered for tier in value.tiers})
    tiers = tuple(Tier(above=start, **rates(start + 1)) for start in starts)
    return Price(model=model, dated=dated, tiers=tiers, **rates(0))
