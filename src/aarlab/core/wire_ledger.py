"""What travels over HTTP about money, time and steering: limits, spend, model calls, controls."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, FiniteFloat, model_validator

from aarlab.core.wire_base import MAX_TEXT, Name, Reference, Wire

SpendKind = Literal[
    "device_s",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "dollars",
]
Wanted = Literal["run", "pause", "stop"]
Action = Literal["pause", "resume", "stop", "message", "extend"]
WaitKind = Literal["account", "overload", "budget"]
SessionKind = Literal["research", WaitKind]
Purpose = Literal["review", "classify", "transcripts"]  # of a model call of the operator's own
Tokens = Annotated[int, Field(ge=0, le=10**9)]
Dollars = Annotated[FiniteFloat, Field(ge=0, le=1e6)]


def _no_bool(given: Any) -> Any:
    """Raise ValueError for a bool, since `true` would be read as 1."""
    if isinstance(given, bool):
        raise ValueError("must be a number")
    return given


# Requests for verification of an AAR that was given no number: a re-run costs device time, and
# whoever may ask without end can look for a chance success.
DEFAULT_METHODS = 10
MOST = 10**12  # of any amount: hours converted to seconds are still finite
Amount = Annotated[FiniteFloat, BeforeValidator(_no_bool), Field(ge=0, le=MOST)]
Count = Annotated[int, BeforeValidator(_no_bool), Field(ge=0, le=MOST)]


# ---------------------------------------------------------------- limits
class Limits(Wire):
    """Limits per AAR; None means unlimited.

    For `methods`, None means that an AAR has DEFAULT_METHODS.
    """

    hours: Amount | None = None
    submissions: Count | None = None
    dollars: Amount | None = Field(
        default=None, description="model calls, and device seconds at the campaign's rate"
    )
    device_s: Amount | None = None
    tokens: Count | None = None
    methods: Count | None = Field(default=None, description="requests for verification")

    def finite(self) -> "Limits":
        """Return the limits with a number of requests for verification, if only the default."""
        if self.methods is not None:
            return self
        return self.model_copy(update={"methods": DEFAULT_METHODS})


class CampaignLimits(Wire):
    """Limits of all AARs together; None means unlimited."""

    hours: Amount | None = Field(default=None, description="research hours, summed up")
    dollars: Amount | None = None
    device_s: Amount | None = None
    tokens: Count | None = None


class CampaignBudget(Wire):
    """Set once when a campaign starts; `extend` replaces limits later."""

    limits: CampaignLimits = CampaignLimits()
    device_dollars_per_hour: Amount = 0.0


# ---------------------------------------------------------------- spend
class Spend(Wire):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"kind": "device_s", "amount": 41.5, "note": "trial 3"}]}
    )
    kind: SpendKind
    amount: Annotated[FiniteFloat, Field(ge=0, le=1e12)]
    note: Annotated[str, Field(max_length=200)] = ""


class NewReservation(Wire):
    """The most that the next model call can cost; released when the call is recorded."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"call": "s1-t17", "dollars": 0.57, "tokens": 158192}]}
    )
    call: Reference
    dollars: Dollars
    tokens: Tokens
    beside: bool = Field(
        default=False, description="keep the AAR's other reservations: calls run in parallel"
    )


class ModelCall(Wire):
    """One paid model call, recorded once under `call`; tokens by kind do not overlap."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "call": "s1-t17",
                    "model": "anthropic/claude-sonnet-4-5",
                    "input_tokens": 812,
                    "output_tokens": 344,
                    "cache_read_tokens": 40210,
                    "dollars": 0.02,
                    "seconds": 7.4,
                }
            ]
        }
    )
    call: Reference
    model: Annotated[str, Field(min_length=1, max_length=200)]
    input_tokens: Tokens = 0
    output_tokens: Tokens = 0
    cache_read_tokens: Tokens = 0
    cache_write_tokens: Tokens = 0
    dollars: Dollars = 0.0
    seconds: Annotated[FiniteFloat, Field(ge=0, le=1e6)] = 0.0


class CallTotals(Wire):
    """What calls to one model took together."""

    model: str
    calls: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    dollars: FiniteFloat
    seconds: FiniteFloat


class ModelSpend(CallTotals):
    """All calls of one AAR to one model."""

    aar: Name


# ---------------------------------------------------------------- time
class NewWait(Wire):
    """From `ago_s` ago on, an AAR waits and does no research, or (`research`) continues it.

    account: the provider's account has no credit or its key is refused. overload: the provider does
    not answer. budget: calls under way hold what is left. Only the AAR's supervisor says so.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"kind": "overload", "note": "529: Overloaded"}]}
    )
    kind: SessionKind
    note: Annotated[str, Field(max_length=1000)] = ""
    ago_s: Annotated[FiniteFloat, Field(ge=0, le=86_400)] = 0.0


# ---------------------------------------------------------------- the operator's own calls
class OperatorCall(ModelCall):
    """A paid model call of the operator.

    It is of the review of code, of the judge of ideas, or of the reader of transcripts. `call` is
    unique over all purposes; `priced` says which price table, of which day.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "purpose": "review",
                    "call": "review-3f9c1a2b7d5e-0b1c",
                    "model": "anthropic/claude-sonnet-4-5",
                    "input_tokens": 2811,
                    "output_tokens": 41,
                    "dollars": 0.009,
                    "seconds": 2.1,
                    "priced": "2026-01-31, genai-prices 0.0.36",
                }
            ]
        }
    )
    purpose: Purpose
    priced: Annotated[str, Field(max_length=200)] = ""


class OperatorReservation(OperatorCall):
    """The most that the next call can cost.

    It is refused if all calls of the purpose, with what is held for those without a bill, could
    then pass `cap_dollars`.
    """

    cap_dollars: Dollars | None = None


class OperatorSpend(CallTotals):
    """All calls of one purpose to one model.

    `open` of them are under way, or were cut off, and count with the most that they can cost.
    """

    purpose: Purpose
    open: int


# ---------------------------------------------------------------- steering
class NewControl(Wire):
    """What a person asks of one AAR, or of all, while the campaign runs.

    `extend` adds `add` to the limits. Older clients send `limits` instead, which replaces them.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"action": "message", "text": "Look at the hard rows.", "by": "Ada"}]
        }
    )
    action: Action
    text: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    add: Limits | None = Field(default=None, description="`extend`: added to the limits")
    limits: Limits | None = Field(
        default=None, description="`extend`, deprecated: replaces the limits; use `add`"
    )
    by: Annotated[str, Field(min_length=1, max_length=100)]

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> "NewControl":
        if self.action == "message" and not self.text.strip():
            raise ValueError("a message needs a `text`")
        given = [
            each.model_dump(exclude_none=True)  # stored controls contain nulls
            for each in (self.add, self.limits)
            if each is not None
        ]
        if (self.action == "extend") != any(given):
            raise ValueError(
                "`extend` needs `add`, what is added to the limits, and no other action has it"
            )
        if all(given) and len(given) == 2:
            raise ValueError("give `add` or `limits` (deprecated), not both")
        if self.add is not None and (zero := [n for n, a in self.add if a == 0]):
            raise ValueError(f"what is added must be above 0: {', '.join(zero)}")
        return self


class Control(NewControl):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"action": "pause", "by": "Ada", "seq": 3, "aar": "edda", "at": "2026-01-31T09:00"}
            ]
        }
    )
    seq: int
    aar: Name | None = Field(description="None: the whole campaign")
    at: str


class OperatorMessage(Wire):
    """A message of a person to an AAR; `seq` is the cursor of the list."""

    seq: int
    at: str
    by: str
    text: str
