"""Requests for verification: their budget, their states, and what they do not tell."""

import pytest
from http_kit import http, problem_of, snapshot_of
from platform_kit import Running

from aarlab.core.errors import BadInput, BudgetExhausted, Conflict, Forbidden, NotFound
from aarlab.core.wire import NewVerdict, NewVerification, Run, VerificationResult
from aarlab.core.wire_ledger import DEFAULT_METHODS
from aarlab.core.wire_service import NewMethod


def _verify(running: Running, snapshot: str, task: str = "tiny", **given) -> None:
    with running.operator() as operator:
        wanted = NewVerification(snapshot=snapshot, task=task, n_seeds=1, **given)
        queued = operator.request_verification(wanted)
        probs = [0.5] * 240
        if task == "tiny":
            probs = running.task.probs(queued.split, 0.8, 1)
        runs = [Run(seed=queued.run_seeds[0], probs=probs)]
        result = VerificationResult(ids=running.task.ids(queued.split), runs=runs)
        operator.settle(queued.id, result)


def test_a_request_is_verified_when_its_run_is_done(running: Running, aar) -> None:
    code = aar.put_snapshot(snapshot_of({"method.py": "verify = 1"}))
    made = aar.request_verification(NewMethod(snapshot=code.id, note="best"), key="m")
    assert aar.request_verification(NewMethod(snapshot=code.id, note="best"), key="m") == made
    assert made.state == "queued" and aar.method_requests() == [made]
    _verify(running, code.id, task="held")
    _verify(running, code.id, split="certify")
    _verify(running, code.id, ablation="permuted")
    assert aar.method_requests() == [made], "hidden tasks, certify and ablations change nothing"
    _verify(running, code.id)
    (seen,) = aar.method_requests()
    assert seen == made.model_copy(update={"state": "verified"}), "a state and no figure"
    (listed,) = [one for one in aar.verified_methods() if one.snapshot == code.id]
    assert (listed.task, listed.state) == ("tiny", "verified")
    with running.operator() as operator:
        (record,) = [one for one in operator.method_requests() if one.id == made.id]
        board = [
            e for e in operator.export().leaderboard if (e.snapshot, e.task) == (code.id, "tiny")
        ]
        assert record.scores == board and len(board) == 1, "figures are the operator's"
        logged = [r.body for r in operator.log() if r.kind == "method" and r.body["id"] == made.id]
    assert len(logged) == 1 and logged[0]["snapshot"] == code.id


def test_refused_and_failed_requests_say_why(running: Running, aar) -> None:
    first, second = (aar.put_snapshot(snapshot_of({"method.py": f"r = {i}"})).id for i in range(2))
    refused = aar.request_verification(NewMethod(snapshot=first, task="tiny"))
    failing = aar.request_verification(NewMethod(snapshot=second))
    with running.operator() as operator:
        operator.refuse_method(refused.id, "reads the clock")
        queued = operator.request_verification(NewVerification(snapshot=second, task="tiny"))
        operator.settle(queued.id, VerificationResult(error="row sel0007 of the hidden split"))
        with pytest.raises(NotFound):
            operator.refuse_method("mth_none", "x")
    shown = aar.method_requests()
    assert [one.id for one in shown] == [refused.id, failing.id]
    assert [one.state for one in shown] == ["refused", "failed"]
    assert shown[0].reason == "reads the clock"
    assert "sel0007" not in shown[1].model_dump_json(), "a run's error may quote hidden rows"


def test_a_verdict_that_unranks_shows_in_the_request(running: Running, aar) -> None:
    code = aar.put_snapshot(snapshot_of({"method.py": "d = 1"})).id
    aar.request_verification(NewMethod(snapshot=code))
    _verify(running, code)
    with running.operator() as operator:
        operator.give_verdict(
            NewVerdict(snapshot=code, decision="disqualified", reason="copied", by="t")
        )
    (seen,) = aar.method_requests()
    assert seen.state == "refused" and "verdict" in seen.reason
    assert code not in {one.snapshot for one in aar.verified_methods()}


def test_requests_have_a_budget_and_a_refusal_costs_nothing(running: Running) -> None:
    with running.aar("asker", methods=1, submissions=0) as asker, running.aar("owner") as owner:
        foreign = owner.put_snapshot(snapshot_of({"method.py": "f = 1"})).id
        own = [asker.put_snapshot(snapshot_of({"method.py": f"o = {i}"})).id for i in range(2)]
        with pytest.raises(Forbidden, match="another AAR"):
            asker.request_verification(NewMethod(snapshot=foreign))
        for task in ("held", "nope"):
            with pytest.raises(NotFound, match="no task"):
                asker.request_verification(NewMethod(snapshot=own[0], task=task))
        with pytest.raises(NotFound):
            asker.request_verification(NewMethod(snapshot="0" * 40))
        assert (asker.me().methods_made, asker.me().methods_left) == (0, 1)
        asker.request_verification(NewMethod(snapshot=own[0]), key="one")
        with pytest.raises(BudgetExhausted, match="1 of 1 requests"):
            asker.request_verification(NewMethod(snapshot=own[1]))
        asker.request_verification(NewMethod(snapshot=own[0]), key="one")
        assert (asker.me().methods_made, asker.me().methods_left) == (1, 0)
        assert owner.me().methods_left == DEFAULT_METHODS and owner.method_requests() == []


def test_the_same_is_asked_once(running: Running, aar) -> None:
    code = aar.put_snapshot(snapshot_of({"method.py": "twice = 1"})).id
    aar.request_verification(NewMethod(snapshot=code))
    with pytest.raises(Conflict, match="already"):
        aar.request_verification(NewMethod(snapshot=code, note="again"))
    aar.request_verification(NewMethod(snapshot=code, task="tiny"))
    with pytest.raises(BadInput):
        aar.request_verification(NewMethod.model_construct(snapshot="", task=None, note=""))
    with http(running, running.token("bad-asker")) as client:
        for body in ("{}", '{"snapshot":5}', '{"snapshot":"a","pgr":1}', "[]", "\\ud800"):
            headers = {"Idempotency-Key": "b", "Content-Type": "application/json"}
            answer = client.post("/v1/methods", content=body, headers=headers)
            assert problem_of(answer).code == "bad_input"
