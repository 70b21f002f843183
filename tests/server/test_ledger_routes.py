"""Money over HTTP: reserved, recorded once, visible to the AAR; and steering by the operator."""

import pytest
from http_kit import http, problem_of
from platform_kit import Running, platform

from aarlab.client.platform import PlatformClient
from aarlab.core.errors import BadInput, BudgetExhausted, Conflict, NotFound, TooManyRequests
from aarlab.core.layout import RunDir
from aarlab.core.ledger import tokens_of
from aarlab.core.wire import Limits, NewAar
from aarlab.core.wire_ledger import (
    CampaignBudget,
    CampaignLimits,
    ModelCall,
    NewControl,
    NewReservation,
)
from aarlab.store.log import verify_log

CALL = ModelCall(call="c1", model="scripted/x", input_tokens=70, output_tokens=30, dollars=0.5)


def asked(call: str, tokens: int, dollars: float = 0.0) -> NewReservation:
    return NewReservation(call=call, tokens=tokens, dollars=dollars)


def control(action: str, **given: object) -> NewControl:
    return NewControl.model_validate({"action": action, "by": "Ada", **given})


def test_a_call_is_counted_once_over_keys_and_crashes(running: Running) -> None:
    with running.aar("payer", tokens=1000, dollars=2.0) as aar:
        before = aar.reserve(asked("c1", 200, 1.0), key="r1")
        assert before.left.tokens == 1000 and before.spend == {}
        after = aar.record_call(CALL, key="m1")
        assert aar.record_call(CALL, key="m1") == after, "the stored answer"
        assert aar.record_call(CALL, key="another").spend == after.spend, "the same call"
        assert (after.left.tokens, after.left.dollars) == (900, 1.5)
        assert tokens_of(after.spend) == 100 and after.campaign_left is None
        with pytest.raises(Conflict, match="other figures"):
            aar.record_call(CALL.model_copy(update={"output_tokens": 31}))
        with pytest.raises(BudgetExhausted, match="900 of 1000 tokens left"):
            aar.reserve(asked("c2", 901))
        with pytest.raises(Conflict):
            aar.reserve(asked("c2", 3), key="m1")
    with running.operator() as operator:
        entries = [e.body for e in operator.log() if e.kind == "model_call"]
        assert [e["call"] for e in entries if e["aar"] == "payer"] == ["c1"]
        (spent,) = [s for s in operator.export().model_spend if s.aar == "payer"]
        (record,) = [a for a in operator.export().aars if a.name == "payer"]
    assert (spent.calls, spent.input_tokens, spent.dollars) == (1, 70, 0.5)
    assert record.dollars == 0.5
    assert record.dollars_per_hour is None or record.dollars_per_hour > 0


@pytest.fixture
def own(tiny, tmp_path):
    """A platform of its own: these tests set the campaign's budget."""
    with platform(tiny, RunDir(tmp_path / "run"), "--task", "tiny") as started:
        yield started


def test_the_campaigns_cap_holds_over_aars_and_shows_what_is_left(own: Running) -> None:
    budget = CampaignBudget(limits=CampaignLimits(tokens=1000), device_dollars_per_hour=2.0)
    with own.operator() as operator, own.aar("one") as one:
        assert operator.set_budget(budget) == operator.set_budget(budget) == operator.budget()
        two = PlatformClient(own.address, own.token("two"), deadline_s=0.0)
        one.reserve(asked("c1", 700))
        with pytest.raises(TooManyRequests, match="under way"):
            two.reserve(asked("c1", 400))
        one.record_call(CALL)
        left = two.reserve(asked("c1", 400)).campaign_left
        assert left is not None and left.tokens == 900
        assert "one" not in two.me().model_dump_json()
        operator.control(None, control("extend", limits={"tokens": 1300}))
        one.reserve(asked("c2", 800))
        with pytest.raises(BadInput, match="no limit of submissions"):
            operator.control(None, control("extend", limits={"submissions": 9}))
        refusals = [e for e in operator.log() if e.kind == "refusal"]
        assert all(e.body["code"] != "too_many_requests" for e in refusals)
        two.close()
    verify_log(own.place)


def test_controls_reach_whom_they_are_meant_for(own: Running) -> None:
    with own.operator() as operator, own.aar("ann", dollars=1.0) as ann, own.aar("bea") as bea:
        with pytest.raises(NotFound, match=r"no AAR 'nobody'; there are .*ann"):
            operator.control("nobody", control("pause"))
        operator.control("ann", control("message", text="to ann"))
        operator.control(None, control("message", text="to all"))
        assert [m.text for m in ann.messages()] == ["to ann", "to all"]
        assert [m.text for m in bea.messages()] == ["to all"]
        assert bea.messages(after=bea.messages()[-1].seq) == []
        operator.control("ann", control("pause"))
        assert (ann.me().wanted, bea.me().wanted) == ("pause", "run")
        operator.control(None, control("pause"))
        operator.control("ann", control("resume"))
        assert ann.me().wanted == "pause", "all are paused"
        operator.control(None, control("resume"))
        assert ann.me().wanted == "run"
        operator.control("ann", control("extend", limits={"dollars": 5.0}), key="x")
        assert ann.me().limits == Limits(dollars=5.0, methods=10)
        operator.control("ann", control("stop"))
        with pytest.raises(BudgetExhausted, match="stopped"):
            ann.reserve(asked("c1", 1))
        with pytest.raises(Conflict, match="final"):
            operator.control("ann", control("resume"))
        with pytest.raises(NotFound):
            operator.control("nobody", control("pause"))
        made = operator.controls()
        assert [c.seq for c in made] == sorted(c.seq for c in made)
        assert [c.aar for c in operator.controls("bea")] == [None] * 3
        logged = [e.body for e in operator.log() if e.kind == "control"]
        assert [(e["action"], e.get("aar"), e["by"]) for e in logged] == [
            (c.action, c.aar, "Ada") for c in made
        ]
    verify_log(own.place)


def test_no_aar_steers_and_malformed_controls_are_refused(running: Running, aar) -> None:
    body = {"action": "pause", "by": "me"}
    with http(running, running.token("sly")) as sly:
        for path in ("/v1/operator/controls", "/v1/operator/aars/sly/controls"):
            answer = sly.post(path, json=body, headers={"Idempotency-Key": "k"})
            assert problem_of(answer).code == "forbidden"
    for wrong in ({"action": "message"}, {"action": "pause", "limits": {"hours": 1}}, {"by": ""}):
        with http(running, running.operator_token) as operator:
            answer = operator.post(
                "/v1/operator/controls", json={**body, **wrong}, headers={"Idempotency-Key": "k"}
            )
            assert answer.status_code == 422


def test_limits_without_a_limit_are_none(own: Running) -> None:
    """What was stored has its nulls; it must be read again as what it was."""
    token = own.token("led")
    with http(own, own.operator_token) as operator:
        headers = {"Idempotency-Key": "no-limits"}
        asked = {"action": "resume", "limits": {}, "by": "me"}
        first, again = (
            operator.post("/v1/operator/aars/led/controls", json=asked, headers=headers)
            for _ in range(2)
        )
        assert first.status_code == 200 and again.json() == first.json()
        assert operator.get("/v1/operator/controls?aar=led").json() == [first.json()]
        nulls = {"action": "extend", "limits": {"hours": None}, "by": "me"}
        refused = operator.post(
            "/v1/operator/controls", json=nulls, headers={"Idempotency-Key": "nulls"}
        )
        assert refused.status_code == 422
    assert token.startswith("aar_")


def test_an_external_agent_that_is_paused_is_refused_what_costs(own: Running) -> None:
    with own.operator() as operator:
        new = NewAar(name="guest", researcher="external", direction="")
        token = operator.register(new).token
        with PlatformClient(own.address, token, deadline_s=5) as guest:
            operator.control("guest", control("pause"))
            with pytest.raises(Conflict, match="paused"):
                guest.submit(own.submission(0.6))
            operator.control("guest", control("resume"))
            guest.submit(own.submission(0.6))
            operator.control("guest", control("stop"))
            with pytest.raises(BudgetExhausted, match="stopped"):
                guest.submit(own.submission(0.7))
