"""What people do: verdicts, comments, steering; each counts once, with its name in the log."""

import itertools

import pytest
from dashboard_kit import snapshot
from platform_kit import Running
from seats import facts, field, operator_seat


def verdict_form(client, method: str, decision: str, **more: str) -> dict[str, str]:
    page = client.get(f"/methods/{method}").text
    form = {name: field(page, name) for name in ("form", "key", "seen")}
    return {
        **form,
        "decision": decision,
        "reason": "reads labels off the score",
        "by": "Ada",
        **more,
    }


def test_a_verdict_counts_once_and_takes_the_method_out_of_the_ranking(served: Running) -> None:
    method = snapshot(served, "calibrated_corrected")
    where = f"/methods/{method}/verdict"
    with operator_seat(served) as client:
        form = verdict_form(client, method, "disqualified")
        for wrong in ({"reason": " "}, {"by": ""}, {"decision": "maybe"}):
            assert client.post(where, data={**form, **wrong}).status_code == 422
        for _ in range(2):
            assert client.post(where, data=form).status_code == 303
        board = facts(client, "/leaderboard?aar=swift&task=math")["entries"]
        assert next(e for e in board if e["snapshot"] == method)["rank"] is None
        assert "reads labels off the score" in client.get(f"/methods/{method}").text
        last = facts(client, "/log?kind=verdict")["entries"][0]["body"]
        assert (last["by"], last["decision"]) == ("Ada", "disqualified")
    with served.operator() as operator:
        assert [v.by for v in operator.verdicts() if v.snapshot == method] == ["Ada"]


def test_of_two_operators_the_second_is_told_what_the_first_decided(served: Running) -> None:
    method = snapshot(served, "group_consensus")
    where = f"/methods/{method}/verdict"
    with operator_seat(served, "Ada") as ada, operator_seat(served, "Bob") as bob:
        hers = verdict_form(ada, method, "disqualified", by="Ada")
        his = verdict_form(bob, method, "accepted", by="Bob")
        assert ada.post(where, data=hers).status_code == 303
        refused = bob.post(where, data=his)
        assert refused.status_code == 409 and "Ada gave a verdict (disqualified)" in refused.text
        assert (
            bob.post(where, data=verdict_form(bob, method, "rework", by="Bob")).status_code == 303
        )
        shown = facts(ada, f"/methods/{method}")["verdicts"]
        assert [(v["by"], v["decision"]) for v in shown] == [
            ("Bob", "rework"),
            ("Ada", "disqualified"),
        ]


def test_a_person_comments_and_aars_read_it_as_a_persons(served: Running) -> None:
    with operator_seat(served, "Ada Lovelace") as client:
        finding = facts(client, "/forum")["findings"][0]["id"]
        page = client.get(f"/forum/{finding}").text
        form = {name: field(page, name) for name in ("form", "key")}
        assert 'value="Ada Lovelace"' in page
        for _ in range(2):
            sent = client.post(
                f"/forum/{finding}/comments", data={**form, "text": "Why *this* seed?"}
            )
            assert sent.status_code == 303
        again = client.get(f"/forum/{finding}").text
        assert again.count("<em>this</em>") == 1 and "a person" in again
        assert facts(client, "/forum?q=seed+why")["findings"][0]["id"] == finding
    with served.aar("reader") as aar:
        comments = aar.finding(finding).comments
        assert [c.author for c in comments if c.author.startswith("@")] == ["@ada-lovelace"]
        with pytest.raises(Exception, match="name"):
            served.token("@ada-lovelace")


@pytest.mark.parametrize("name, author", [("李雷", "@person"), ("Zoë O'Neil", "@zoe-o-neil")])
def test_any_name_makes_an_author_that_no_aar_can_have(name: str, author: str) -> None:
    from aarlab.store.forum import person_author

    assert person_author(name) == author


def test_the_end_of_an_aars_process_log_is_shown_quoted(served: Running) -> None:
    log = served.run.aar_log("finch")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("\n".join(f"line {n} <b>x</b>" for n in range(20_000)), encoding="utf-8")
    with operator_seat(served) as client:
        assert 'href="/aars/finch/log"' in client.get("/aars/finch").text
        page, shown = facts(client, "/aars/finch/log"), client.get("/aars/finch/log").text
        assert client.get("/aars/nobody/log").status_code == 404
    lines = page["text"].split("\n")
    assert lines[-1] == "line 19999 <b>x</b>" and lines[0].startswith("line ")
    assert 60_000 < len(page["text"]) <= 65_536
    assert "line 19999 &lt;b&gt;x&lt;/b&gt;" in shown and "<b>x" not in shown


def test_an_aar_is_steered_from_its_page(served: Running) -> None:
    with operator_seat(served) as client:
        numbers = itertools.count()
        opened = client.get("/aars/finch").text  # and left open: later it offers what cannot act

        def ask(**form: str) -> int:
            given = {
                "form": field(opened, "form"),
                "key": f"{field(opened, 'key')}{next(numbers)}",
                "back": "aar",
            }
            return client.post("/aars/finch/control", data={**given, **form}).status_code

        assert ask(action="pause") == 303
        with served.operator() as operator:
            assert next(a.wanted for a in operator.aars() if a.name == "finch") == "pause"
        assert ask(action="resume") == 303
        assert ask(action="message", text="Look at the hard rows.", by="Bob") == 303
        assert ask(action="message", text=" ") == 422
        assert ask(action="extend", dollars="55.5", submissions="50") == 303
        assert ask(action="extend") == 422 and ask(action="extend", dollars="many") == 422
        assert ask(action="explode") == 422
        page = facts(client, "/aars/finch")
        assert page["limits"]["dollars"] == 95.5 and page["limits"]["submissions"] == 90
        for wrong in ({"hours": "-1"}, {"hours": "nan"}, {"hours": "inf"}, {"submissions": "0"}):
            assert ask(action="extend", **wrong) == 422, wrong
        assert ask(action="extend", tokens="5") == 422, "there is no limit of tokens to extend"
        shown = client.get("/aars/finch").text
        assert "Adds to the limits" in shown and "add dollars to 95.5" in shown
        assert [c["action"] for c in page["controls"]] == ["extend", "message", "resume", "pause"]
        assert page["controls"][1]["by"] == "Bob"
        assert ask(action="stop") == 303 and ask(action="resume") == 409
        everyone = {"form": field(client.get("/aars/wren").text, "form"), "action": "pause"}
        assert client.post("/aars/control", data=everyone).status_code == 303
        rows = {r["name"]: r["wanted"] for r in facts(client, "/")["aars"]}
        assert rows["wren"] == "pause" and rows["finch"] == "stop"
    with served.operator() as operator:
        last = [e for e in operator.log(after=operator.head().seq - 20) if e.kind == "control"]
        assert last[-1].body["by"] == "Ada"
