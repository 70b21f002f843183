"""What providers' errors mean: real texts of vendors, through their own exceptions."""

import json
from typing import Any, ClassVar

import anthropic
import httpx
import httpx2
import openai
import pytest
from inspect_ai.model._model import ModelGenerateError
from inspect_ai.model._openai import OpenAIResponseError

from aarlab.agents.refusals import TABLE, Refusal, refusal_in, refusal_of

KEY = "sk-proj-0123456789abcdefghij"


def anthropic_error(status: int, kind: str, message: str, **details: Any) -> Exception:
    """As its client raises it for such an answer."""
    error = {"type": kind, "message": message} | ({"details": details} if details else {})
    body = {"type": "error", "error": error, "request_id": "req_1"}
    client = anthropic.Anthropic(api_key="none")
    request = httpx2.Request("POST", "https://api.anthropic.com/v1/messages")
    response = httpx2.Response(status, json=body, request=request)
    return client._make_status_error_from_response(response)


def openai_error(
    status: int, kind: str | None, code: str | None, message: str, param: str | None = None
) -> Exception:
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    client = openai.OpenAI(api_key="none")
    web = httpx2 if "httpx2" in str(type(client._client)) else httpx
    request = web.Request("POST", "https://api.openai.com/v1/responses")
    return client._make_status_error_from_response(web.Response(status, json=body, request=request))


ANTHROPIC = [
    (
        "account", 400, "invalid_request_error",
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing "
        "to upgrade or purchase credits.",
    ),
    (
        "account", 400, "invalid_request_error",
        "You have reached your specified API usage limits. You will regain access on 2026-04-01 "
        "at 00:00 UTC.",
    ),
    ("account", 400, "invalid_request_error", "This organization has been disabled."),
    ("account", 402, "billing_error", "There is an issue with your payment information."),
    ("key", 401, "authentication_error", "invalid x-api-key"),
    ("key", 403, "permission_error", "Your API key lacks permission for the resource."),
    ("settings", 404, "not_found_error", "model: claude-nosuch"),
    (
        "settings", 403, "permission_error",
        "Your organization does not have access to the model claude-x.",
    ),
    (
        "settings", 400, "invalid_request_error",
        "max_tokens: 128000 > 64000, which is the maximum allowed number of output tokens",
    ),
    (
        "settings", 400, "invalid_request_error",
        "`temperature` may only be set to 1 when thinking is enabled.",
    ),
    ("settings", 400, "invalid_request_error", "tools.3.custom.input_schema: Field required"),
    ("settings", 400, "invalid_request_error", "top_k: Extra inputs are not permitted"),
    (
        "conversation", 400, "invalid_request_error",
        "messages.3: `tool_use` ids were found without `tool_result` blocks immediately after",
    ),
    (
        "conversation", 400, "invalid_request_error",
        "messages.7.content.0.text: your credit balance is too low, said a quoted file",
    ),
    ("conversation", 400, "invalid_request_error", "Output blocked by content filtering policy"),
    ("context", 400, "invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum"),
    (
        "context", 400, "invalid_request_error",
        "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease "
        "input length or `max_tokens` and try again",
    ),
    ("context", 413, "request_too_large", "Request exceeds the maximum size"),
    (
        "overload", 429, "rate_limit_error",
        "This request would exceed your organization's rate limit of 50,000 input tokens per "
        "minute. Please reduce the prompt length or the maximum tokens requested.",
    ),
    ("overload", 529, "overloaded_error", "Overloaded"),
    ("overload", 500, "api_error", "Internal server error"),
    ("overload", 504, "timeout_error", "Request timed out"),
    (
        "overload", 400, "invalid_request_error",
        "The request body is not valid JSON: unexpected end of data: line 1 column 9",
    ),
]  # fmt: skip
OPENAI = [
    (
        "account", 429, "insufficient_quota", "insufficient_quota",
        "You exceeded your current quota, please check your plan and billing details.",
    ),
    ("account", 429, "billing_not_active", "billing_not_active", "Your account is not active."),
    (
        "account", 429, "invalid_request_error", "credit_balance_exhausted",
        "The organization has no API credits remaining.",
    ),
    (
        "account", 400, "invalid_request_error", "billing_hard_limit_reached",
        "Billing hard limit has been reached",
    ),
    ("account", 429, "x", "project_spend_limit_exceeded", "The project reached its limit."),
    ("key", 401, "invalid_request_error", "invalid_api_key", f"Incorrect API key provided: {KEY}."),
    (
        "settings", 404, "invalid_request_error", "model_not_found",
        "The model `gpt-nosuch` does not exist or you do not have access to it.",
    ),
    (
        "settings", 403, "invalid_request_error", "model_not_found",
        "Project `proj_x` does not have access to model `gpt-x`",
    ),
    (
        "settings", 400, "invalid_request_error", "unsupported_parameter",
        "Unsupported parameter: 'max_tokens' is not supported with this model.",
    ),
    ("conversation", 400, "invalid_request_error", "invalid_prompt", "Your prompt was flagged."),
    (
        "context", 400, "invalid_request_error", "context_length_exceeded",
        "This model's maximum context length is 128000 tokens. However, your messages resulted in "
        "130001 tokens. Please reduce the length of the messages.",
    ),
    (
        "context", 400, "invalid_request_error", "context_length_exceeded",
        "Your input exceeds the context window of this model. Please adjust your input.",
    ),
    (
        "context", 429, "tokens", "rate_limit_exceeded",
        "Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, "
        "Requested 30601. The input or output tokens must be reduced in order to run successfully.",
    ),
    (
        "overload", 429, "tokens", "rate_limit_exceeded",
        "Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 29000, "
        "Requested 5000. Please try again in 8s.",
    ),
    ("overload", 503, "server_error", "slow_down", "Slow down"),
]  # fmt: skip
# Other vendors, as a status and the body that they send.
OTHERS: list[tuple[str, int, Any]] = [
    ("account", 402, {"error": {"message": "Insufficient Balance", "code": "x"}}),
    (
        "account", 403,
        {"code": "x", "error": "Your team 16f2 has either used all available credits or reached "
         "its monthly spending limit."},
    ),
    (
        "account", 429,
        {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "You exceeded your "
         "current quota. Quota: GenerateRequestsPerDayPerProject. Please retry in 30s."}},
    ),
    (
        "overload", 429,
        {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "You exceeded your "
         "current quota, please check your plan and billing details. Please retry in 23.1s."}},
    ),
    (
        "context", 400,
        {"error": {"status": "INVALID_ARGUMENT", "message": "The input token count (1048577) "
         "exceeds the maximum number of tokens allowed (1048576)."}},
    ),
    (
        "key", 400,
        {"error": {"status": "INVALID_ARGUMENT", "message": "API key not valid.",
                   "details": [{"reason": "API_KEY_INVALID"}]}},
    ),
    (
        "context", 400,
        {"error": "This model's maximum prompt length is 131072 but the request contains 537812 "
         "tokens."},
    ),
    (
        "context", 400,
        {"message": "Prompt contains 40000 tokens and 0 draft tokens, too large for model with "
         "32768 maximum context length"},
    ),
    ("overload", 502, "<html><h1>Bad Gateway</h1></html>"),
    ("overload", 429, "slow"),
]  # fmt: skip


@pytest.mark.parametrize(("meaning", "status", "kind", "message"), ANTHROPIC)
def test_anthropics_words(meaning: str, status: int, kind: str, message: str) -> None:
    refusal = refusal_of(anthropic_error(status, kind, message))
    assert (refusal.meaning, refusal.status) == (meaning, status)
    assert refusal.message == " ".join(message.split())


@pytest.mark.parametrize(("meaning", "status", "kind", "code", "message"), OPENAI)
def test_openais_words(meaning: str, status: int, kind: str, code: str, message: str) -> None:
    refusal = refusal_of(openai_error(status, kind, code, message))
    assert (refusal.meaning, refusal.status, refusal.code) == (meaning, status, code)
    assert KEY not in str(refusal)


@pytest.mark.parametrize(("meaning", "status", "body"), OTHERS)
def test_other_vendors_bodies(meaning: str, status: int, body: Any) -> None:
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    refusal = refusal_in(status, raw)
    assert refusal.meaning == meaning, refusal
    assert "<" not in refusal.message


def test_a_code_in_the_details_comes_first() -> None:
    """A machine-readable cause outranks status and type."""
    error = anthropic_error(
        400, "invalid_request_error", "No.", error_code="contract_spend_limit_reached"
    )
    refusal = refusal_of(error)
    assert (refusal.meaning, refusal.code) == ("account", "contract_spend_limit_reached")


def test_the_parameter_tells_conversation_from_settings() -> None:
    def of(param: str) -> str:
        return refusal_of(openai_error(400, "invalid_request_error", "x", "Bad.", param)).meaning

    assert of("input[3].content") == of("messages[2]") == "conversation"
    assert of("service_tier") == of("text.verbosity") == "settings"


def test_other_clients_exceptions() -> None:
    class ClientError(Exception):  # botocore's
        response: ClassVar[dict[str, Any]] = {
            "Error": {"Code": "ThrottlingException", "Message": "Too many tokens, please wait"},
            "ResponseMetadata": {"HTTPStatusCode": 429},
        }

    class RpcError(Exception):  # grpc's
        def code(self) -> Any:
            return type("Status", (), {"name": "UNAVAILABLE"})

        def details(self) -> str:
            return "connection lost"

    assert refusal_of(ClientError()).meaning == "overload"
    rpc = refusal_of(RpcError())
    assert (rpc.meaning, rpc.code, rpc.message) == ("overload", "unavailable", "connection lost")
    assert refusal_of(OpenAIResponseError("server_error", "oops")).meaning == "overload"
    unknown = refusal_of(OSError("cut"))
    assert unknown == Refusal("overload", "OSError: cut", None, "", None, None, sure=False)


def test_the_request_is_never_quoted() -> None:
    """Inspect puts the whole request in front of the provider's words."""
    cause = anthropic_error(400, "invalid_request_error", "messages.1: bad")
    error = ModelGenerateError("\nRequest:\n{secret prompt}", status_code=400)
    error.__cause__ = cause
    assert str(refusal_of(error)) == "400 invalid_request_error: messages.1: bad"


def test_keys_are_taken_out_before_the_text_is_cut() -> None:
    masked = "sk-proj-" + "*" * 40 + "wxyz"
    text = "x" * 490 + " " + masked + " " + KEY
    refusal = refusal_in(401, {"error": {"message": text}})
    assert "wxyz" not in refusal.message and "sk-" not in refusal.message


@pytest.mark.parametrize(
    ("message", "limit", "sent"),
    [
        ("prompt is too long: 208310 tokens > 200000 maximum", 200_000, 208_310),
        (
            "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, ...",
            200_000,
            188_240,
        ),
        (
            "This model's maximum context length is 4,097 tokens. However, you requested 5,000 "
            "tokens (4,000 in the messages, 1,000 in the completion).",
            4_097,
            5_000,
        ),
        (
            "This endpoint's maximum context length is 32768 tokens. However, you requested about "
            "42832 tokens",
            32_768,
            42_832,
        ),
        (
            "max_tokens is too large: 8192. This model's maximum context length is 4096 tokens "
            "and your request has 1000 input tokens",
            4_096,
            1_000,
        ),
        (
            "the request (9000 tokens) exceeds the available context size (8192 tokens)",
            8_192,
            9_000,
        ),
        ("Request too large for x: Limit 30000, Requested 30601.", 30_000, 30_601),
        ("Your input exceeds the context window of this model.", None, None),
    ],
)
def test_the_limit_is_read_where_it_is_told(message: str, limit: int, sent: int) -> None:
    refusal = refusal_in(400, {"error": {"message": message}})
    assert (refusal.meaning, refusal.limit, refusal.sent) == ("context", limit, sent)


def test_every_error_finds_a_row_and_the_last_takes_all() -> None:
    assert not (TABLE[-1].codes or TABLE[-1].words or TABLE[-1].statuses)
    for status in (None, 0, 302, 400, 418, 499, 599):
        assert refusal_in(status, None).message == "(the provider gave no reason)"
