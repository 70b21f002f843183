"""Findings about an AAR's submissions in the queue: decided like methods, and shown."""

from platform_kit import Running
from seats import facts, operator_seat


def the_case(client) -> dict:
    cases = facts(client, "/audits?state=all")["cases"]
    return next(c for c in cases if c["audit"] and c["aar"] == "swift" and c["task"] == "math")


def ranked(client) -> set[str]:
    board = facts(client, "/leaderboard?aar=swift&task=math")["entries"]
    return {entry["snapshot"] for entry in board if entry["rank"] is not None}


def form_of(client, decision: str, reason: str) -> dict[str, str]:
    """As the case's own form sends it."""
    case = the_case(client)
    page = client.get("/audits?state=all").text
    start = page.index(f'action="/audits/{case["audit"]}/verdict"')
    block = page[start : page.index("</form>", start)]
    assert f'value="{decision}"' in block
    given = {
        name: block.split(f'name="{name}" value="')[1].split('"')[0]
        for name in ("form", "key", "seen", "back")
    }
    return {**given, "decision": decision, "reason": reason, "by": "Ada"}


def test_a_finding_about_an_aar_is_confirmed_and_dismissed_again(served: Running) -> None:
    with operator_seat(served) as client:
        case, before = the_case(client), ranked(client)
        assert case["verdict"] is None and case["severity"] == "suspect" and before
        texts = [alert["text"] for alert in facts(client, "/")["alerts"]]
        assert "a suspect series of submissions waits for a verdict" in texts
        where = f"/audits/{case['audit']}/verdict"
        form = form_of(client, "confirmed:task", "flips rows")
        for wrong in ({"reason": " "}, {"by": ""}, {"decision": "accepted"}, {"decision": ""},
                      {"decision": "dismissed:all"}):  # fmt: skip
            assert client.post(where, data={**form, **wrong}).status_code == 422
        for _ in range(2):  # a form that is sent twice counts once
            assert client.post(where, data=form).headers["location"].startswith("/audits?state=all")
        assert ranked(client) == set()
        shown = client.get(f"/methods/{min(before)}").text
        assert "flips rows" in shown and "about swift&#39;s submissions on math" in shown
        assert "All its methods on math are disqualified" in client.get("/aars/swift").text
        assert "All its methods on math are disqualified" in client.get("/audits?state=all").text
        assert "series of submissions" not in str(facts(client, "/")["alerts"])
        late = client.post(where, data={**form, "key": "another", "reason": "did not see it"})
        assert late.status_code == 409 and "Ada gave a verdict (confirmed)" in late.text
        again = form_of(client, "dismissed", "the rows were retried")
        assert client.post(where, data=again).status_code == 303
        assert ranked(client) == before
        last = facts(client, "/log?kind=case_verdict")["entries"]
    assert [entry["body"]["decision"] for entry in last] == ["dismissed", "confirmed"]
    with served.operator() as operator:
        assert len(operator.case_verdicts()) == 2


def test_a_single_method_of_it_is_accepted_again_on_its_page(served: Running) -> None:
    with operator_seat(served) as client:
        before = ranked(client)
        where = f"/audits/{the_case(client)['audit']}/verdict"
        form = form_of(client, "confirmed:all", "flips rows")
        assert client.post(where, data=form).status_code == 303
        method = min(before)
        page = client.get(f"/methods/{method}").text
        given = {n: page.split(f'name="{n}" value="')[1].split('"')[0] for n in ("form", "seen")}
        form = {"decision": "accepted", "reason": "an honest one", "by": "Ada", "key": "k", **given}
        answer = client.post(f"/methods/{method}/verdict", data={**form, "seen": ""})
        assert answer.status_code == 409, "it does not overrule what its page did not show"
        assert client.post(f"/methods/{method}/verdict", data=form).status_code == 303
        assert ranked(client) == {method}
