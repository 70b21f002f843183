"""What a provider's error means, in one table for every place that calls a model.

The first row that applies decides. Anthropic reports an empty account as 400
`invalid_request_error`, the same as a malformed request, and OpenAI reports it as 429, the same as
a rate limit. A status alone therefore says little. Error codes and the provider's own words come
first.

Covered: the exceptions of the anthropic, openai, groq, mistral, google-genai, botocore and grpc
clients, of httpx and of Inspect, and answers that Inspect makes of a refusal. The message is the
provider's, never the request that Inspect appends to it.
Not covered: a provider whose wording of a known cause is not in the table. Its status decides then.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aarlab.agents.language.redaction import cleaner

Meaning = Literal["account", "key", "settings", "conversation", "context", "overload"]
MAX_MESSAGE = 500
MAX_CODES = 8


@dataclass(frozen=True, slots=True)
class Refusal:
    """A provider's error, sorted by what it means.

    account: no credit, quota or billing.
    key: not accepted. It was revoked if it worked before.
    settings: the model or a parameter is wrong.
    conversation: the content of this request is refused.
    context: there are more tokens than the model or the account accepts in one call. `limit` is the
    number it accepts and `sent` the number it received, where the error gives them.
    overload: rate limit, server error or no answer.

    `status` is None where there was no HTTP answer. `sure` is False if no row decided, or only a
    status that is not one of an overload. The error may then be a one-off.
    """

    meaning: Meaning
    message: str
    status: int | None = None
    code: str = ""
    limit: int | None = None
    sent: int | None = None
    sure: bool = True

    def __str__(self) -> str:
        named = " ".join(str(part) for part in (self.status, self.code) if part)
        return f"{named}: {self.message}" if named else self.message


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table. It applies where the status and either a code or the words match.

    A row without statuses accepts any. A row with neither codes nor words needs only the status.
    """

    meaning: Meaning
    codes: frozenset[str] = frozenset()
    words: str = ""
    statuses: frozenset[int] = frozenset()

    def applies(self, status: int | None, codes: frozenset[str], message: str) -> bool:
        if self.statuses and status not in self.statuses:
            return False
        if not self.codes and not self.words:
            return True
        found = bool(self.words) and re.search(self.words, message, re.DOTALL) is not None
        return found or bool(self.codes & codes)


def _codes(names: str) -> frozenset[str]:
    return frozenset(names.split())


# Codes and words are compared in lower case.
TABLE = (
    # Names a part of the conversation; what follows may quote it.
    Row("conversation", words=r"^(messages|contents|input)(\.\d+|\[\d+\])"),
    # ------------------------------------------------------------ account
    Row("account", words=r"exceeded your current quota.*per ?day", statuses=frozenset({429})),
    Row(
        "overload",  # Google words its per-minute limit like an empty account
        words=r"exceeded your current quota.*(retry in|per ?minute)",
        statuses=frozenset({429}),
    ),
    Row(
        "account",
        _codes(
            "insufficient_quota billing_not_active billing_hard_limit_reached billing_error "
            "credit_balance_exhausted insufficient_balance insufficient_credits "
            "contract_spend_limit_reached enforced_spend_limit_reached "
            "linked_organization_billing_unavailable linked_organization_spend_limit_reached "
            "organization_on_hold usage_limit_exceeded usage_limit_reached quota_exceeded "
            "project_spend_limit_exceeded organization_spend_limit_exceeded "
            "organization_usage_limit_exceeded account_deactivated access_terminated"
        ),
        r"credit balance is too low|specified api usage limits|exceeded your current quota"
        r"|insufficient (account )?(balance|credits?|funds|quota)|out of credits"
        r"|used all available credits|purchase (more )?credits|more credits, or fewer"
        r"|billing (hard )?limit|check your (plan and )?billing|payment required"
        r"|(monthly|weekly) (spending|spend|usage) limit|spend(ing)? limit|prepaid balance"
        r"|(organization|account) (is|has been|was) "
        r"(not active|deactivated|suspended|disabled|blocked)",
    ),
    Row("account", statuses=frozenset({402})),
    # ------------------------------------------------------------ context
    Row(
        "context",
        _codes(
            "context_length_exceeded exceed_context_size_error request_too_large "
            "string_above_max_length request_body_too_large_after_decoding"
        ),
        r"prompt is too long|input is too long|exceeds? context limit|maximum context length"
        r"|context window|maximum prompt length|context length|context size"
        r"|input token count.*exceeds|too large for model|reduce the length|request too large"
        r"|tokens must be reduced|long context (requests|beta)",
    ),
    Row("context", statuses=frozenset({413})),
    # ------------------------------------------------------------ what the model will not do
    Row(
        "conversation",
        _codes(
            "invalid_prompt content_policy_violation content_filter cyber_policy bio_policy "
            "misalignment_policy_violation invalid_image invalid_image_format invalid_base64_image "
            "image_too_large image_too_small image_parse_error image_content_policy_violation "
            "image_dimensions_too_large tool_reference_unresolved "
            "param:messages param:input param:contents param:prompt"
        ),
        r"content filter|content management policy|flagged|usage policy|tool_use|tool_result"
        r"|tool_call|roles? must|unexpected role|trailing whitespace|must be non-empty"
        r"|invalid `?signature|blocked by",
        frozenset({400, 403, 422}),
    ),
    # ------------------------------------------------------------ settings
    Row(
        "settings",
        _codes(
            "model_not_found model_not_available model_not_active unsupported_model invalid_model "
            "unsupported_parameter unsupported_value unknown_parameter deploymentnotfound "
            "unsupported_country_region_territory organization_type_not_supported "
            "not_found_error resource_not_found workspace_human_review_disabled param:other"
        ),
        r"model\b.{0,120}(does not exist|not found|not exist|not available|not supported"
        r"|deprecated|retired)|no such model|access to (the )?(specified )?model"
        r"|does not have access to|must be verified|unsupported (parameter|value)"
        r"|unrecognized request argument|unknown (parameter|name|field)"
        r"|extra inputs are not permitted|max_(completion_|output_)?tokens|temperature|top_p"
        r"|thinking|reasoning|anthropic-(beta|version)|^(tools|tool_choice|system|model)\b",
        frozenset({400, 403, 404, 422}),
    ),
    Row("settings", statuses=frozenset({404, 405, 410, 501})),
    # ------------------------------------------------------------ key
    Row(
        "key",
        _codes("invalid_api_key api_key_invalid authentication_error permission_error"),
        r"api key not valid|invalid x-api-key|incorrect api key|invalid api key",
        frozenset({400, 401, 403}),
    ),
    Row("key", statuses=frozenset({401, 403})),
    # ------------------------------------------------------------ overload
    Row(
        "overload",
        _codes(
            "rate_limit_error rate_limit_exceeded ramp_limit_exceeded overloaded_error api_error "
            "timeout_error server_error server_overloaded slow_down internal_error "
            "internal_server_error request_timeout connection_failed flex_unavailable "
            "throttlingexception serviceunavailableexception modelnotreadyexception "
            "unavailable deadline_exceeded resource_exhausted"
        ),
        r"unexpected end of data",  # a body that was cut in transit: 400 at Anthropic
    ),
    Row("overload", statuses=frozenset({408, 409, 425, 429, *range(500, 600)})),
    Row("conversation", statuses=frozenset({400, 422})),
    Row("overload"),
)

# Advice to the operator where no process waits. The message adds "and run the same command again".
WHAT_TO_DO: Mapping[Meaning, str] = {
    "account": "see to the account at the provider",
    "key": "set a key that the provider takes",
    "settings": "set the model and its settings right",
    "conversation": "look at what was sent",
    "context": "take a model with a longer context",
    "overload": "wait for the provider",
}
_CONVERSATION = ("messages", "input", "contents", "prompt")  # parameters that hold it
_NUMBER = r"([\d][\d,_]*)"
# Messages with token counts: the tokens sent and the provider's limit, as named groups.
_COUNTS = tuple(
    re.compile(pattern.replace("#", _NUMBER), re.DOTALL)
    for pattern in (
        # Anthropic
        r"prompt is too long: (?P<sent>#) tokens > (?P<limit>#)",
        r"exceeds? context limit: (?P<sent>#) \+ (?P<answer>#) > (?P<limit>#)",
        # OpenAI and compatible providers. A per-minute limit also limits each call.
        r"limit (?P<limit>#), requested (?P<sent>#)",
        r"maximum context length (?:is|of) (?P<limit>#).{0,80}?(?:resulted in|requested(?: about)?"
        r"|has|contains(?: at least)?) (?P<sent>#)",
        r"maximum prompt length is (?P<limit>#).{0,80}?contains (?P<sent>#)",
        r"prompt contains (?P<sent>#) tokens.{0,120}?too large for model with (?P<limit>#)",
        r"(?:request|prompt) \((?P<sent>#) tokens\).{0,80}?context size \((?P<limit>#)",
        # Google
        r"input token count \(?(?P<sent>#)\)? exceeds the maximum number of tokens "
        r"allowed \(?(?P<limit>#)",
        r"maximum context length (?:is|of) (?P<limit>#)",
    )
)


Clean = Callable[[str], str]
no_keys: Clean = cleaner(())


def classify(
    status: int | None, codes: Iterable[str], message: str, clean: Clean = no_keys
) -> Refusal:
    """Sort an error by the first row of the table that applies. `clean` removes secrets."""
    named = [code.lower() for code in codes if code][:MAX_CODES]
    text, known = message.lower(), frozenset(named)
    row = next(row for row in TABLE if row.applies(status, known, text))
    told = " ".join(clean(message).split())[:MAX_MESSAGE] or "(the provider gave no reason)"
    limit, sent = _counted(text) if row.meaning == "context" else (None, None)
    code = clean(named[0])[:100] if named else ""
    sure = bool(row.codes or row.words or (row.meaning == "overload" and row.statuses))
    return Refusal(row.meaning, told, status, code, limit, sent, sure)


def _counted(text: str) -> tuple[int | None, int | None]:
    """Return the tokens that fit and the tokens that were sent, where the message names them.

    An answer is left out of the tokens sent only where the message counts it separately.
    """
    for pattern in _COUNTS:
        if found := pattern.search(text):
            of = {k: int(v.replace(",", "").replace("_", "")) for k, v in found.groupdict().items()}
            return of["limit"], of.get("sent")
    return None, None


def refusal_in(status: int | None, body: object, clean: Clean = no_keys) -> Refusal:
    """Sort an HTTP error by its body, which is bytes, text or parsed JSON."""
    parsed = _parsed(body)
    message = next(_messages(parsed), "")
    return classify(status, _codes_in(parsed), message or _plain(body), clean)


def refusal_of(error: BaseException, clean: Clean = no_keys) -> Refusal:
    """Sort an exception of a provider's client, also where Inspect or tenacity wrapped it."""
    error = cause_of(error)
    status, body = _status(error), _body(error)
    codes = [*_codes_in(body), *_codes_in(_attributes(error))]
    message = next(_messages(body), "") or _words(error)
    if status is None and not codes:
        message = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return classify(status, codes, message, clean)


def cause_of(error: BaseException) -> BaseException:
    """Return the provider's own exception. Inspect's wrapper quotes the whole request."""
    attempt = getattr(error, "last_attempt", None)  # of tenacity, which the verifier may not have
    if attempt is not None:
        error = attempt.exception() or error
    if hasattr(error, "provider_message") and error.__cause__ is not None:
        return error.__cause__
    return error


# ---------------------------------------------------------------- reading exceptions
def _status(error: BaseException) -> int | None:
    for holder, name in (
        (error, "status_code"),
        (error, "http_status"),
        (error, "code"),
        (getattr(error, "response", None), "status_code"),
    ):
        value = getattr(holder, name, None)
        if type(value) is int and 400 <= value < 600:
            return value
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):  # botocore
        value = (response.get("ResponseMetadata") or {}).get("HTTPStatusCode")
        return value if type(value) is int else None
    return None


def _body(error: BaseException) -> Any:
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        return response
    for given in (getattr(error, "body", None), getattr(error, "details", None)):
        if given is not None and not callable(given):
            return _parsed(given)
    return _parsed(getattr(response, "text", None))


def _attributes(error: BaseException) -> dict[str, Any]:
    """Return the codes that a client sets on the exception itself.

    A gRPC status is given by its name.
    """
    found: dict[str, Any] = {}
    for name in ("code", "error_code", "type", "status"):
        value = getattr(error, name, None)
        if callable(value) and hasattr(error, "details"):
            value = getattr(value(), "name", None)
        if isinstance(value, str):
            found[name] = value
    return found


def _words(error: BaseException) -> str:
    for name in ("message", "details"):
        value = getattr(error, name, None)
        value = value() if callable(value) and hasattr(error, "code") else value
        if isinstance(value, str) and value:
            return value
    return str(error)


def _parsed(body: object) -> Any:
    if isinstance(body, bytes):
        body = body.decode(errors="replace")
    if isinstance(body, str):
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            return None
    return body


def _plain(body: object) -> str:
    """Return a body that is not JSON, such as a gateway's page, without its tags."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
    return re.sub(r"<[^>]*>", " ", text)


def _errors_in(body: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the error objects of a body, inner ones first, since vendors wrap each other's."""
    if isinstance(body, list):
        body = body[0] if body else None
    if not isinstance(body, Mapping):
        return
    for name in ("error", "Error", "response"):
        inner = body.get(name)
        if isinstance(inner, Mapping):
            yield from _errors_in(inner)
    yield body


def _messages(body: Any) -> Iterator[str]:
    for error in _errors_in(body):
        for name in ("message", "Message", "detail", "error"):
            if isinstance(error.get(name), str) and error[name]:
                yield error[name]


def _codes_in(body: Any) -> Iterator[str]:
    """Yield the error codes of a body, the most specific first."""
    for error in _errors_in(body):
        details = error.get("details")
        for detail in details if isinstance(details, list) else [details]:
            if isinstance(detail, Mapping):
                yield from (
                    str(detail[name]) for name in ("error_code", "reason") if detail.get(name)
                )
        for name in ("code", "Code", "error_code", "type", "status"):
            value = error.get(name)
            if isinstance(value, str) and value and value != "error":
                yield value
        if isinstance(error.get("param"), str) and error["param"]:
            part = re.split(r"[.\[]", error["param"])[0]
            yield f"param:{part if part in _CONVERSATION else 'other'}"
