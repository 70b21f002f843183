"""What the supervisor of an external agent makes of its provider's refusals at the proxy."""

import time

import httpx
import pytest
from fake_models import FakeModels, Fault, Reply
from fault_kit import config_of
from language_kit import Bench, connect
from proxy_kit import settings_of

from aarlab.agents.external.claude_code import ClaudeCode
from aarlab.agents.external.spec import ExternalSpec
from aarlab.agents.language.models import SettingsRefused
from aarlab.agents.language.spec import LanguageSpec
from aarlab.agents.proxy.proxy import SOCKET, listening, vendors_client
from aarlab.agents.refusals import refusal_in

MODEL = "anthropic/claude-x"
EMPTY = "Your credit balance is too low to access the Anthropic API."
BODY = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "go"}]}


def said(_conversation) -> Reply:
    return Reply("there")


def test_time_without_credit_is_no_research_and_settings_end_it(desk: Bench) -> None:
    """The proxy sees the refusals; the agent in the sandbox has no say in what counts."""
    config = config_of(desk, LanguageSpec(model=MODEL), "claude")
    spec = ExternalSpec(agent="claude-code", model=MODEL)
    with FakeModels(said, [Fault("refused", at=(2, 3), message=EMPTY)]) as fake:
        settings = settings_of(fake)
        with connect(config) as platform, vendors_client(settings) as vendors:
            platform.open_session()
            made = ClaudeCode(config, spec, platform, lambda: connect(config), settings)
            with listening(made._proxy(vendors), config.home / "models"):
                transport = httpx.HTTPTransport(uds=str(config.home / "models" / SOCKET))
                with httpx.Client(transport=transport, base_url="http://models") as agent:

                    def asks() -> int:
                        return agent.post("/v1/messages", json=BODY).status_code

                    def record():
                        with desk.running.operator() as operator:
                            return next(a for a in operator.aars() if a.name == "claude")

                    assert asks() == 200 and record().waiting_for == ""
                    assert asks() == 400
                    assert record().waiting_for.startswith(f"account: {MODEL}: 400 ")
                    assert EMPTY in record().waiting_for
                    time.sleep(1.2)
                    assert asks() == 400
                    before = record()
                    assert asks() == 200
            after = record()
    assert after.waiting_for == "" and after.waiting_s >= 1.2
    assert after.research_s - before.research_s < 1.0
    revoked = refusal_in(401, {"error": {"type": "authentication_error", "message": "no"}})
    assert made._waits_for(revoked), "a key that worked is waited for"
    gone = refusal_in(404, {"error": {"type": "not_found_error", "message": "model: gone"}})
    with pytest.raises(SettingsRefused, match="model: gone"):
        made._check_settings(gone)
