"""What the supervisor of an external agent makes of its provider's refusals at the proxy."""

import time

import httpx
import pytest
from fake_models import FakeModels, Fault, Reply
from fault_kit import config_of
from language_kit import Bench, connect
from proxy_kit import settings_of

from aarlab.agents.external.claude_code import ClaudeCode
from aarlab.agents.language.models import SettingsRefused
from aarlab.agents.platform_link import Link
from aarlab.agents.proxy.proxy import SOCKET, listening, vendors_client
from aarlab.agents.refusals import refusal_in
from aarlab.agents.specs import ExternalSpec, LanguageSpec
from aarlab.client.platform import PlatformClient
from aarlab.core.errors import Forbidden
from aarlab.core.wire_service import NewWait

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
        settings, link = settings_of(fake), Link(config, 20)
        with link() as platform, vendors_client(settings) as vendors:
            platform.open_session()
            made = ClaudeCode(config, spec, platform, link, settings=settings)
            with listening(made._proxy(vendors), config.home / "models"):
                transport = httpx.HTTPTransport(
                    uds=str(config.home / "models" / SOCKET), verify=False
                )
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


def test_an_agent_cannot_gain_hours_with_its_token(desk: Bench) -> None:
    """What Claude Code has in its sandbox: the token, but not its supervisor's key."""
    config = config_of(desk, LanguageSpec(model=MODEL), "sly")
    token = config.token_file.read_text().strip()
    with connect(config) as supervisor, PlatformClient.over_socket(config.socket, token) as agent:
        supervisor.open_session()
        time.sleep(1.1)
        supervisor.me()
        for _ in range(3):
            agent.open_session()
        forged = PlatformClient.over_socket(config.socket, token, 20, "sup_" + "0" * 64)
        with forged, pytest.raises(Forbidden, match="supervisor"):
            forged.wait(NewWait(kind="overload", ago_s=3600))
        time.sleep(1.1)
        assert supervisor.me().research_s >= 1.1
        time.sleep(1.1)
        assert supervisor.me().research_s >= 2.2
    with desk.running.operator() as operator:
        lives = [s for s in operator.export().sessions if s.aar == "sly"]
    assert len(lives) == 1
