"""Alerts: each says what it should, and nothing where all is well."""

import pytest
from toy_campaign import toy_spec

from aarlab.campaign.spec import AlertSpec
from aarlab.campaign.watch import Look, alerts, newly_verified
from aarlab.core.wire import AarRecord, Audit, Limits, Verification
from aarlab.core.wire_ledger import CampaignBudget, CampaignLimits

NOW, BEFORE = "2026-01-01T10:00:00+00:00", "2026-01-01T08:30:00+00:00"


def aar(name: str = "ann", **changes: object) -> AarRecord:
    known = {
        "name": name,
        "researcher": "language",
        "direction": "",
        "arm": "a",
        "isolation": "bubblewrap",
        "limits": Limits(dollars=10, hours=5),
        "research_s": 3600,
        "spend": {"dollars": 1.0},
        "last_seen_at": NOW,
    }
    return AarRecord.model_validate({**known, **changes})


def found(*aars: AarRecord, audits=(), limits=None, rate=0.0, **given: object) -> list[str]:
    budget = CampaignBudget(limits=limits or CampaignLimits(), device_dollars_per_hour=rate)
    crashes = {record.name: 0 for record in aars}
    look = Look(NOW, aars, audits, budget, **{"crashes": crashes, **given})
    return [f"{what} {about}" for what, about, *_ in alerts(look, AlertSpec())]


def test_nothing_where_all_is_well() -> None:
    assert found(aar(), aar("bea", last_seen_at=None, wanted="pause")) == []


@pytest.mark.parametrize(
    ("changes", "given", "said"),
    [
        ({}, {"crashes": {"ann": 2}}, ["crashing ann"]),
        ({"last_seen_at": BEFORE}, {}, ["silent ann"]),
        ({"last_seen_at": BEFORE, "wanted": "pause"}, {}, []),
        ({"last_seen_at": BEFORE}, {"crashes": {}}, []),  # it has ended
        ({"spend": {"dollars": 8.0}}, {}, ["budget ann dollars"]),
        ({"spend": {"dollars": 10.0}}, {}, ["budget_reached ann dollars"]),
        ({"spend": {"device_s": 7200.0}}, {"rate": 4.6}, ["budget ann dollars"]),
        ({"research_s": 4.6 * 3600}, {}, ["budget ann hours"]),
        ({"researcher": "guard", "submissions": 2, "limits": Limits(submissions=2)}, {}, []),
        ({}, {"limits": CampaignLimits(dollars=1.05)}, ["budget the campaign dollars"]),
        ({}, {"free_bytes": 10**9}, ["disk "]),
    ],
)
def test_each_cause_is_told(changes: dict, given: dict, said: list[str]) -> None:
    assert found(aar(**changes), **given) == said


def test_an_account_is_told_at_once_and_once_for_all_who_wait_for_it() -> None:
    waits = {"waiting_for": "account: m: 400: no credit", "waiting_since": NOW}
    assert found(aar(**waits), aar("bea", **waits)) == ["account m: 400: no credit"]
    assert found(aar(**waits), crashes={}) == []  # it has ended
    slow = {"waiting_for": "overload: m: 529: Overloaded"}
    assert found(aar(**slow, waiting_since=NOW)) == []
    assert found(aar(**slow, waiting_since=BEFORE)) == ["waiting ann"]


def test_a_suspect_audit_is_told_until_a_person_judged_it() -> None:
    facts = {"aar": "ann", "summary": "reads files", "at": NOW}
    audits = [
        Audit(id="aud_1", kind="static", snapshot="f" * 40, severity="suspect", **facts),
        Audit(id="aud_2", kind="static", snapshot="e" * 40, severity="clear", **facts),
        Audit(id="aud_3", kind="forensics", severity="suspect", **facts),
    ]
    assert found(aar(), audits=audits) == ["audit aud_1", "audit aud_3"]
    assert found(aar(), audits=audits, judged={"f" * 40, "another"}) == ["audit aud_3"]
    assert found(aar(), audits=audits, judged={"aud_3"}) == ["audit aud_1"]


def test_a_method_is_announced_once_and_only_by_a_run_that_ranks() -> None:
    def run(number: str, **changes: object) -> Verification:
        known = {"aar": "ann", "method": "m", "task": "gauss", "split": "selection"}
        known |= {"ablation": "none", "run_seeds": [1], "snapshot": "f" * 40, "state": "done"}
        return Verification.model_validate({"id": number, **known, **changes})

    runs = [
        run("ver_1", accuracy=0.7),
        run("ver_2", state="failed", error="Traceback ..."),
        run("ver_3", state="queued"),
        run("ver_4", ablation="permuted"),
        run("ver_5", split="certify"),
        run("ver_6", task="unseen"),
    ]
    known = set[str]()
    facts = {"aar": "ann", "snapshot": "f" * 12, "task": "gauss"}
    assert list(newly_verified(runs, toy_spec(), known)) == [
        {"run": "ver_1", **facts, "state": "done"},
        {"run": "ver_2", **facts, "state": "failed"},
    ]
    assert list(newly_verified(runs, toy_spec(), known)) == []
