"""What the pages say: the same as HTML and JSON, and true to the store."""

import re

import httpx
import pytest
from dashboard_kit import snapshot
from platform_kit import Running, wait_for
from seats import asked_again, facts, field, operator_seat

from aarlab.core.ideas import FAMILIES
from aarlab.core.wire_ledger import OperatorCall

POLICY = "default-src 'none'; script-src 'self'; style-src 'self'"
PAGES = ["/", "/leaderboard", "/audits?state=all", "/forum", "/transcripts", "/transcripts/swift",
         "/transcripts/swift?q=flipped", "/log", "/tasks", "/shares", "/aars/heron",
         "/aars/heron/log"]  # fmt: skip


def test_every_page_is_html_and_json_under_a_strict_policy(served: Running) -> None:
    method = snapshot(served, "group_consensus")
    with operator_seat(served) as client:
        for path in [*PAGES, f"/methods/{method}"]:
            answer = client.get(path)
            assert answer.status_code == 200, path
            policy = answer.headers["content-security-policy"]
            assert policy.startswith(POLICY) and "unsafe" not in policy
            assert answer.headers["cache-control"] == "private, no-store"
            assert not re.search(
                r"<script(?! defer src=\"/static)|<style| style=| on[a-z]+=\"", answer.text
            )
            assert facts(client, path)


def test_the_campaign_says_what_each_aar_does_and_what_wants_a_look(served: Running) -> None:
    with operator_seat(served) as client:
        page = facts(client, "/")
    rows = {row["name"]: row for row in page["aars"]}
    assert rows["rowan"]["role"] == "control" and rows["human"]["role"] == "human"
    assert rows["plover"]["wanted"] == "pause" and rows["wren"]["doing"]["text"]
    dollars = next(b for b in rows["wren"]["budget"] if b["what"] == "dollars")
    assert 0 < dollars["share"] < 1
    kinds = {alert["kind"] for alert in page["alerts"]}
    assert {"audit", "verification", "process", "budget"} <= kinds
    with served.operator() as operator:
        spent = sum(record.dollars for record in operator.aars())
    assert page["spend"]["dollars"] == pytest.approx(spent)


def test_the_operators_own_calls_stand_apart_from_the_aars_spend(served: Running) -> None:
    call = OperatorCall(purpose="review", call="review-1", model="x/y", dollars=1.25)
    with operator_seat(served) as client, served.operator() as operator:
        before = facts(client, "/")["spend"]
        operator.book_call(call)
        after = facts(client, "/")["spend"]
        shown = client.get("/").text
    assert after["operator"] == [{"what": "model review", "dollars": 1.25, "cap": None}]
    assert after["dollars"] == before["dollars"] and before["operator"] == []
    assert "<dt>model review</dt><dd>$1.25</dd>" in shown


def test_the_curve_is_that_of_the_export(served: Running) -> None:
    with operator_seat(served) as client:
        client.get("/")
        wait_for(lambda: client.get("/live/curve").json()["waiting"] == 0)
        drawn = client.get("/live/curve?task=math").json()
        rows = {row["name"]: row["best"] for row in facts(client, "/")["aars"]}
    for one in drawn["series"]:
        assert rows[one["aar"]] == pytest.approx(one["best"][-1][1], abs=1e-3)
    with served.operator() as operator:
        export = operator.export()
    for one in drawn["series"]:
        sent = [s for s in export.submissions if s.aar == one["aar"] and s.task == "math"]
        assert [v for _, v in one["dots"]] == pytest.approx([s.exact.value for s in sent], abs=1e-3)
        assert [h for h, _ in one["dots"]] == pytest.approx([s.research_h for s in sent], abs=1e-3)
        best = max(s.exact.value for s in sent)
        assert one["best"][-1][1] == pytest.approx(best, abs=1e-3)
    assert {b["method"] for b in drawn["baselines"]} >= {"vanilla", "guard_majority"}
    assert drawn["frontier"][-1][1] == max(one["best"][-1][1] for one in drawn["series"])


def test_the_leaderboard_is_the_platforms_with_more_beside(served: Running) -> None:
    with operator_seat(served) as client:
        page = facts(client, "/leaderboard")
        math = facts(client, "/leaderboard?task=math")
        assert {e["task"] for e in math["entries"]} == {"math"}
        only = client.get("/leaderboard?task=math").text.count(">best guard<")
        assert only == 1, "of several guards one is the best"
        assert [e["role"] for e in math["entries"]].count("guard") > 1
        one = facts(client, "/leaderboard?aar=magpie&task=math&flagged=true")["entries"]
        assert [e["method"] for e in one] == ["group_consensus"]
        assert facts(client, "/leaderboard?aar=nobody")["entries"] == []
        held_out = facts(client, "/leaderboard?task=code")["entries"]
        assert held_out and page["held_out"] == ["code"]
    with served.operator() as operator:
        export = operator.export()
    ranked = {(e.task, e.snapshot): e for e in export.leaderboard}
    for entry in [e for e in page["entries"] if e["rank"] is not None]:
        known = ranked[entry["task"], entry["snapshot"]]
        assert (entry["rank"], entry["pgr"], entry["low"]) == (known.rank, known.pgr, known.low)
    cheat = math["entries"][0]
    assert cheat["method"] == "group_consensus" and cheat["contribution"] < 0.1
    assert {"shortcut", "ablation"} <= {f["kind"] for f in cheat["flags"]}
    exact = max(s.exact.value for s in export.submissions
                if s.snapshot == cheat["snapshot"] and s.task == "math")  # fmt: skip
    assert cheat["search"] == pytest.approx(exact, abs=1e-3)
    assert (
        next(e for e in math["entries"] if e["role"] == "guard")["guard"]["method"]
        == "guard_majority"
    )
    certified = next(e for e in math["entries"] if e["method"] == "belief_consistency")["elsewhere"]
    assert {(x["task"], x["split"]) for x in certified} == {
        ("code", "selection"),
        ("math", "certify"),
    }


def test_a_methods_story_goes_from_the_number_to_the_reason(served: Running) -> None:
    child = snapshot(served, "elicited_prior_em")
    with operator_seat(served) as client:
        story = facts(client, f"/methods/{child}")
        assert [s["name"] for s in story["ancestors"]] == ["elicited_prior", "zero_shot_prior"]
        assert [s["name"] for s in story["children"]] == ["belief_consistency"]
        assert (
            story["against"]["name"] == "elicited_prior" and story["vanilla"]["name"] == "vanilla"
        )
        assert {r["ablation"] for r in story["runs"]} == {"none", "permuted", "noise", "flipped"}
        run = next(r for r in story["runs"] if r["ablation"] == "none" and r["task"] == "math")
        seeds = [s["pgr"] for s in run["per_seed"]]
        assert len(seeds) == 5 and sum(seeds) / 5 == pytest.approx(
            run["estimate"]["value"], abs=0.01
        )
        page = client.get(f"/methods/{child}").text
        assert "34 % of 100, in a run at most 39 % (written by the task&#39;s" in page
        assert story["led_to"] and story["cited_by"]
        assert any(e["kind"] == "assistant" for e in story["excerpt"]["entries"])
        plain = client.get(f"/methods/{child}?against=vanilla").text
        assert (
            "next to vanilla" in plain and 'class="removed"' in plain
        ) or 'class="changed"' in plain
        alone = facts(client, f"/methods/{child}?against=nothing")
        assert {f["change"] for f in alone["files"]} == {"added"}


def test_the_queue_has_cases_gravest_first_and_lets_them_go(served: Running) -> None:
    with operator_seat(served) as client:
        cases = facts(client, "/audits")["cases"]
        gravity = [c["severity"] for c in cases]
        assert gravity == sorted(gravity, key=["suspect", "note"].index)
        assert [c["method"] for c in cases[:2]] == ["group_consensus", "calibrated_corrected"]
        notes = facts(client, "/audits?severity=note")["cases"]
        assert {c["severity"] for c in notes} == {"note"}
        page = client.get("/audits").text
        form = {"decision": "rework", "reason": "explain", "by": "Bo", "back": "/audits?state=open"}
        form |= {n: field(page, n) for n in ("form", "key", "seen")}
        where = f"/methods/{snapshot(served, 'probe_direction')}/verdict"
        answer = client.post(where, data=form)
        assert (answer.status_code, answer.headers["location"]) == (303, "/audits?state=open")
        assert "probe_direction" not in [c["method"] for c in facts(client, "/audits")["cases"]]
        decided = facts(client, "/audits?state=decided&severity=note")["cases"]
        assert decided[0]["verdict"]["reason"] == "explain"
        form |= {"back": "//evil.example/", "key": "other", "seen": decided[0]["verdict"]["id"]}
        assert client.post(where, data=form).headers["location"].startswith("/methods/")


def test_an_unchanged_part_is_not_sent_again(served: Running) -> None:
    with operator_seat(served) as client:
        for path in ("/live/aars/wren", "/live/campaign"):
            again = asked_again(client, path)
            assert again.content == b"", path
        tag = {"If-None-Match": again.headers["etag"]}
        served.token(f"fresh{id(client) % 1000}")
        assert client.get("/live/campaign", headers=tag).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/methods/none", "/forum/none", "/forum?after=-1", "/log?before=x", "/aars/none",
     "/transcripts/none", "/transcripts/%2e%2e", "/audits?state=x", "/transcripts/wren?first=-1"],
)  # fmt: skip
def test_wrong_addresses_are_said(served: Running, path: str) -> None:
    with operator_seat(served) as client:
        answer = client.get(path)
        assert answer.status_code in (404, 422)
        assert "Traceback" not in answer.text


def test_the_api_still_answers_in_json(served: Running) -> None:
    with operator_seat(served) as client:
        answer = client.get("/v1/me")
        assert answer.status_code == 401 and answer.json()["code"] == "forbidden"


def test_vendored_files_are_as_published() -> None:
    import hashlib
    import json

    from aarlab.server.dashboard.rendering import STATIC

    folder = STATIC / "vendor"
    known = json.loads((folder / "vendored.json").read_text())
    assert {p.name for p in folder.iterdir()} == {*known, "vendored.json"}
    for name, facts_of in known.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == facts_of["sha256"], name
        assert re.fullmatch(r"\d+\.\d+\.\d+", facts_of["version"])


def test_static_files_are_named_by_their_content(served: Running) -> None:
    with operator_seat(served) as client:
        page = client.get("/").text
        for path in set(re.findall(r'(?:src|href)="(/static/[^"]+)"', page)):
            answer: httpx.Response = client.get(path)
            assert answer.status_code == 200 and "immutable" in answer.headers["cache-control"]
        stale = client.get("/static/style.css?v=0").headers["cache-control"]
        assert stale == "no-cache"
        assert client.get("/static/../pages/log.py").status_code == 404


def test_families_are_those_of_the_report(served: Running) -> None:
    with operator_seat(served) as client:

        def board() -> list[dict]:
            return facts(client, "/leaderboard?task=math")["entries"]

        board()
        wait_for(lambda: all(e["family"] != "not classified yet" for e in board()))
        found = {e["snapshot"]: e["family"] for e in board()}
        headers = {"Authorization": f"Bearer {served.operator_token}"}
        export = client.get("/v1/operator/export?ideas=true", headers=headers).json()
        ideas = {i["snapshot"]: i["family"] for i in export["ideas"]}
        for snapshot_id, family in found.items():
            title = FAMILIES[ideas[snapshot_id]].title if ideas[snapshot_id] else "not recognised"
            assert family == title
        assert len(set(found.values())) > 3
        family = found[snapshot(served, "overlap_density")]
        chosen = client.get("/leaderboard", params={"family": family, "format": "json"}).json()
        assert {e["family"] for e in chosen["entries"]} == {family}
