"""Prices: the table's own arithmetic, overrides, and no price that is made up."""

import pytest
from genai_prices import Usage, calc_price
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from aarlab.agents.prices import Price, Tier, price_of
from aarlab.core.clock import parse_iso
from aarlab.core.errors import NotFound

AT = "2026-11-25T00:00:00+00:00"
MODELS = [
    ("anthropic", "anthropic", "claude-sonnet-4-5"),
    ("anthropic", "anthropic", "claude-opus-4-1"),
    ("openai", "openai", "gpt-5"),
    ("google", "google", "gemini-2.5-pro"),
    ("grok", "x-ai", "grok-4"),
]


@pytest.mark.parametrize(("provider", "listed", "name"), MODELS)
@pytest.mark.parametrize(
    "kinds", [(100_000, 900, 0, 0), (3_000, 70, 90_000, 0), (9, 9, 9, 400_000)]
)
def test_dollars_are_those_of_genai_prices(provider, listed, name, kinds) -> None:
    plain, out, read, written = kinds
    usage = Usage(
        input_tokens=plain + read + written,
        output_tokens=out,
        cache_read_tokens=read,
        cache_write_tokens=written,
    )
    theirs = calc_price(
        usage, name, provider_id=listed, genai_request_timestamp=parse_iso(AT)
    ).total_price
    ours = price_of(f"{provider}/{name}", at=AT).dollars(
        input_tokens=plain,
        output_tokens=out,
        cache_read_tokens=read,
        cache_write_tokens=written,
    )
    assert ours == pytest.approx(float(theirs), rel=1e-9)


def test_an_override_comes_first_and_keeps_its_date() -> None:
    own = Price(
        model="anthropic/claude-sonnet-4-5",
        dated="2026-11-01",
        input=1,
        output=2,
        cache_read=0.5,
        cache_write=4,
    )
    price = price_of(own.model, {own.model: own})
    assert price.dated == "2026-11-01"
    assert price.dollars(1_000_000, 1_000_000, 1_000_000, 1_000_000) == 7.5
    assert price.worst(1_000_000, 0) == 4


@pytest.mark.parametrize("model", ["scripted/novice", "mockllm/model", "hf/some/model"])
def test_what_runs_here_costs_no_tokens(model: str) -> None:
    assert price_of(model).dollars(10**6, 10**6, 10**6, 10**6) == 0


@pytest.mark.parametrize("model", ["anthropic/no-such-model", "nowhere/x", "plain", ""])
def test_an_unknown_price_is_an_error_that_says_what_to_add(model: str) -> None:
    with pytest.raises(NotFound, match="prices: "):
        price_of(model)


def test_the_date_says_when_and_which_table() -> None:
    assert price_of("openai/gpt-5", at=AT).dated.startswith("2026-11-25, genai-prices ")


# ---------------------------------------------------------------- what is reserved is a worst case
counts = st.integers(0, 400_000)
rates = st.just(0.0) | st.floats(1e-6, 100)


@st.composite
def prices(draw) -> Price:
    def rate() -> dict[str, float]:
        return {k: draw(rates) for k in ("input", "output", "cache_read", "cache_write")}

    tiers = [Tier(above=above, **rate()) for above in draw(st.sets(st.integers(1, 300_000)))]
    hourly = draw(st.none() | rates)
    given_ = {} if hourly is None else {"cache_write_1h": hourly}
    model = draw(st.sampled_from(["anthropic/claude-x", "openai/x", "bedrock/anthropic.claude-x"]))
    return Price(model=model, dated="test", tiers=tuple(tiers[:3]), **rate(), **given_)


def test_a_price_that_no_vendor_asks_is_refused() -> None:
    for wrong in (2e-311, -1.0, float("nan")):
        with pytest.raises(ValidationError):
            Price(model="m", dated="test", input=wrong, output=1.0)


@given(prices(), counts, counts, counts, counts, counts, st.integers(0, 400_000))
def test_the_worst_case_is_one(price, plain, out, read, written, hourly, room) -> None:
    """Whatever the cache does, however long entries are kept, in every price tier."""
    hourly = min(hourly, written)
    cost = price.dollars(plain, out, read, written, hourly)
    total = plain + read + written
    assert cost <= price.worst(total + room, out) * (1 + 1e-9) + 1e-12
    five_minutes = price.dollars(plain, out, read, written)
    assert five_minutes <= price.worst(total + room, out, one_hour=False) * (1 + 1e-9) + 1e-12


def test_a_cache_write_of_an_hour_costs_double_the_input() -> None:
    """By the table; by default for an own price of Anthropic's; in the tier of a long context."""
    listed = price_of("anthropic/claude-sonnet-4-5", at=AT)
    assert listed.cache_write_1h == pytest.approx(2 * listed.input)
    theirs = calc_price(
        Usage(
            input_tokens=90_000,
            output_tokens=0,
            cache_write_tokens=80_000,
            cache_write_1h_tokens=80_000,
        ),
        "claude-sonnet-4-5",
        provider_id="anthropic",
        genai_request_timestamp=parse_iso(AT),
    ).total_price
    ours = listed.dollars(10_000, cache_write_tokens=80_000, one_hour_tokens=80_000)
    assert ours == pytest.approx(float(theirs), rel=1e-9)
    own = Price(model="anthropic/claude-x", dated="d", input=3, output=15, cache_write=3.75)
    assert own.cache_write_1h == 6
    assert own.worst(10_000, 0) == pytest.approx(0.06)
    long = Tier(above=200_000, input=6, output=22.5, cache_read=0.6, cache_write=7.5)
    assert own.model_copy(update={"tiers": (long,)}).worst(300_000, 0) == pytest.approx(3.6)
    other = Price(model="openai/gpt-x", dated="d", input=3, output=15)
    assert other.cache_write_1h == other.cache_write == 3
